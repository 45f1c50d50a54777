"""Diffusion nodes that are played: no weights, but the same links, steps, previews and times to wait.

A checkpoint is a name, a conditioning its text, a latent a size with a seed; what is decoded at the end is
the picture of `async_comfy.testing.pictures` for that text and that seed.
"""

from dataclasses import dataclass, replace
from typing import Any

from PIL import Image

from async_comfy.testing.call import Call
from async_comfy.testing.nodes.images import scale
from async_comfy.testing.nodes.node import CHOICE, FLOAT, INT, Node
from async_comfy.testing.nodes.values import Conditioning, Images, Latent, Masks, Model, Played
from async_comfy.testing.pictures import glimpse, paint

SIDE = 16384  # the largest side that core nodes take, pixels
PREVIEW_SIDE = 256  # pixels of the longer side of a preview: what latent previews of common sizes have
SAMPLERS = [
    *("euler", "euler_cfg_pp", "euler_ancestral", "euler_ancestral_cfg_pp", "heun", "heunpp2"),
    *("exp_heun_2_x0", "exp_heun_2_x0_sde", "dpm_2", "dpm_2_ancestral", "lms", "dpm_fast"),
    *("dpm_adaptive", "dpmpp_2s_ancestral", "dpmpp_2s_ancestral_cfg_pp", "dpmpp_sde", "dpmpp_sde_gpu"),
    *("dpmpp_2m", "dpmpp_2m_cfg_pp", "dpmpp_2m_sde", "dpmpp_2m_sde_gpu", "dpmpp_2m_sde_heun"),
    *("dpmpp_2m_sde_heun_gpu", "dpmpp_3m_sde", "dpmpp_3m_sde_gpu", "ddpm", "lcm", "ipndm", "ipndm_v"),
    *("deis", "res_multistep", "res_multistep_cfg_pp", "res_multistep_ancestral"),
    *("res_multistep_ancestral_cfg_pp", "gradient_estimation", "gradient_estimation_cfg_pp", "er_sde"),
    *("seeds_2", "seeds_3", "sa_solver", "sa_solver_pece", "ddim", "uni_pc", "uni_pc_bh2"),
]
CLIP_TYPES = [
    *("stable_diffusion", "stable_cascade", "sd3", "stable_audio", "mochi", "ltxv", "pixart", "cosmos"),
    *("lumina2", "wan", "hidream", "chroma", "ace", "omnigen2", "qwen_image", "hunyuan_image", "flux2"),
    *("ovis", "longcat_image", "cogvideox", "lens", "pixeldit", "ideogram4", "boogu", "krea2"),
    *("joyimage", "mage", "minimax"),
]
DUAL_CLIP_TYPES = [
    *("sdxl", "sd3", "flux", "hunyuan_video", "hidream", "hunyuan_image", "hunyuan_video_15"),
    *("kandinsky5", "kandinsky5_image", "ltxv", "newbie", "ace"),
]
SCHEDULERS = [
    *("simple", "sgm_uniform", "karras", "exponential", "ddim_uniform", "beta", "normal", "linear_quadratic"),
    "kl_optimal",
]


@dataclass(frozen=True, slots=True)
class Noise:
    """NOISE: a seed; None adds none."""

    seed: int | None


@dataclass(frozen=True, slots=True)
class Guider:
    """GUIDER: what a sampler aims at."""

    model: Model
    text: str


@dataclass(frozen=True, slots=True)
class Sigmas:
    """SIGMAS: how many steps there are, and how much of the picture they make anew."""

    steps: int
    denoise: float = 1.0


async def checkpoint(call: Call, ckpt_name: str) -> tuple[Model, Model, Model]:
    """Model, text encoder and VAE of one file."""
    await call.load(ckpt_name)
    return Model(ckpt_name), Model(ckpt_name), Model(ckpt_name)


async def load_one(call: Call, **names: Any) -> tuple[Model]:
    """Anything that is loaded from one or several files."""
    files = [value for name, value in names.items() if "name" in name]
    for file in files:
        await call.load(file)
    return (Model("+".join(files)),)


async def lora(
    call: Call, model: Model, clip: Model, lora_name: str, strength_model: float, strength_clip: float
) -> Any:
    """A model and its text encoder, both patched."""
    await call.load(lora_name)
    return model.patched(lora_name), clip.patched(lora_name)


async def lora_model(call: Call, model: Model, lora_name: str, strength_model: float) -> tuple[Model]:
    """A patched model."""
    await call.load(lora_name)
    return (model.patched(lora_name),)


async def passed(call: Call, **inputs: Any) -> tuple[Any]:
    """A node that changes a model, a text encoder or a conditioning in a way that cannot be seen."""
    return (next(value for value in inputs.values() if isinstance(value, Model | Conditioning)),)


async def encode_text(call: Call, clip: Model, **texts: Any) -> tuple[Conditioning]:
    """The text itself; of several, each once."""
    said = dict.fromkeys(text for text in texts.values() if isinstance(text, str))
    return (Conditioning("\n".join(said)),)


async def zero_out(call: Call, conditioning: Conditioning) -> tuple[Conditioning]:
    """No text at all."""
    return (Conditioning(""),)


async def combine(call: Call, **parts: Any) -> tuple[Conditioning]:
    """Several texts in one."""
    return (Conditioning("\n".join(part.text for part in parts.values() if isinstance(part, Conditioning))),)


async def empty_latent(call: Call, width: int, height: int, batch_size: int) -> tuple[Latent]:
    """A size, and nothing to see."""
    return (Latent(width, height, batch_size),)


async def encode_images(call: Call, pixels: Images, vae: Model, **more: Any) -> tuple[Latent]:
    """Pictures as a latent; decoded at once they are the same again."""
    count, height, width, _ = pixels.shape
    return (Latent(width, height, count, clarity=1.0, source=pixels),)


async def upscale_latent(
    call: Call, samples: Latent, upscale_method: str, width: int, height: int, crop: str
) -> tuple[Latent]:
    """The same in another size."""
    return (replace(samples, width=width or samples.width, height=height or samples.height),)


async def upscale_latent_by(
    call: Call, samples: Latent, upscale_method: str, scale_by: float
) -> tuple[Latent]:
    """The same, so many times as large."""
    return (replace(samples, width=round(samples.width * scale_by), height=round(samples.height * scale_by)),)


async def sample(
    call: Call, latent: Latent, text: str, seed: int, steps: int, *, start: int = 0, denoise: float = 1.0
) -> Latent:
    """Steps from noise to picture, each reported, with a picture in the making if there are previews."""
    aimed = replace(latent, seed=seed, text=text, source=None if denoise >= 1.0 else latent.source)
    shown = await call.think(_thumbnail, aimed) if call.previews else None
    for step in range(start, steps):
        await call.pause(call.worker.settings.step_s)
        clarity = 1.0 - denoise * (1.0 - (step + 1) / steps)
        picture = None if shown is None else await call.think(glimpse, shown, clarity, seed)
        await call.step(step + 1, steps, picture)
    return replace(aimed, clarity=1.0)


async def ksampler(
    call: Call,
    model: Model,
    seed: int,
    steps: int,
    cfg: float,
    sampler_name: str,
    scheduler: str,
    positive: Conditioning,
    negative: Conditioning,
    latent_image: Latent,
    denoise: float,
) -> tuple[Latent]:
    """KSampler."""
    return (await sample(call, latent_image, positive.text, seed, steps, denoise=denoise),)


async def ksampler_advanced(
    call: Call,
    model: Model,
    add_noise: str,
    noise_seed: int,
    steps: int,
    cfg: float,
    sampler_name: str,
    scheduler: str,
    positive: Conditioning,
    negative: Conditioning,
    latent_image: Latent,
    start_at_step: int,
    end_at_step: int,
    return_with_leftover_noise: str,
) -> tuple[Latent]:
    """KSamplerAdvanced: some of the steps; what it leaves undone can be seen."""
    seed = noise_seed if add_noise == "enable" else latent_image.seed
    last, first = min(steps, end_at_step), min(steps, start_at_step)
    made = await sample(call, latent_image, positive.text, seed, last, start=min(first, last))
    done = last / steps if return_with_leftover_noise == "enable" else 1.0
    return (replace(made, clarity=done),)


async def sample_custom(
    call: Call, noise: Noise, guider: Guider, sampler: Any, sigmas: Sigmas, latent_image: Latent
) -> tuple[Latent, Latent]:
    """SamplerCustomAdvanced."""
    seed = latent_image.seed if noise.seed is None else noise.seed
    made = await sample(call, latent_image, guider.text, seed, sigmas.steps, denoise=sigmas.denoise)
    return made, made


async def random_noise(call: Call, noise_seed: int) -> tuple[Noise]:
    """A seed."""
    return (Noise(noise_seed),)


async def no_noise(call: Call) -> tuple[Noise]:
    """No seed."""
    return (Noise(None),)


async def basic_guider(call: Call, model: Model, conditioning: Conditioning) -> tuple[Guider]:
    """A guider with one text."""
    return (Guider(model, conditioning.text),)


async def cfg_guider(
    call: Call, model: Model, positive: Conditioning, negative: Conditioning, cfg: float
) -> tuple[Guider]:
    """A guider with a text for and a text against; only the first can be seen."""
    return (Guider(model, positive.text),)


async def select_sampler(call: Call, sampler_name: str) -> tuple[Played]:
    """A sampler by its name."""
    return (Played("SAMPLER", sampler_name),)


async def basic_scheduler(
    call: Call, model: Model, scheduler: str, steps: int, denoise: float
) -> tuple[Sigmas]:
    """So many steps."""
    return (Sigmas(steps, denoise),)


async def karras_scheduler(
    call: Call, steps: int, sigma_max: float, sigma_min: float, rho: float
) -> tuple[Sigmas]:
    """So many steps, otherwise spaced."""
    return (Sigmas(steps),)


def decode(call: Call, samples: Latent, vae: Model) -> tuple[Images]:
    """What a latent shows."""
    frames = (_picture(samples, samples.seed + index, index) for index in range(samples.count))
    return (Images(tuple(frames)),)


def decode_tiled(call: Call, samples: Latent, vae: Model, **tiles: Any) -> tuple[Images]:
    """The same, piece by piece on a real server."""
    return decode(call, samples, vae)


def upscale_with_model(call: Call, upscale_model: Model, image: Images) -> tuple[Images]:
    """Four times as large."""
    return (
        Images(tuple(scale(frame, "lanczos", frame.width * 4, frame.height * 4) for frame in image.frames)),
    )


async def keep_mask(call: Call, samples: Latent, mask: Masks) -> tuple[Latent]:
    """A latent whose masked part alone is made anew on a real server."""
    return (samples,)


def _picture(latent: Latent, seed: int, index: int) -> Image.Image:
    if latent.source is not None and not latent.text:
        frames = latent.source.frames
        return scale(frames[min(index, len(frames) - 1)], "bicubic", latent.width, latent.height)
    if latent.clarity <= 0:
        return Image.new(
            "RGB", (latent.width, latent.height), (124, 122, 118)
        )  # what an empty latent decodes to
    painted = paint(latent.text, seed, latent.width, latent.height)
    if latent.source is not None:
        below = scale(latent.source.frames[0], "bicubic", latent.width, latent.height).convert("RGB")
        painted = Image.blend(below, painted, 0.5)
    return glimpse(painted, latent.clarity, seed)


def _thumbnail(latent: Latent) -> Image.Image:
    """The picture to come, in the size of a preview."""
    factor = PREVIEW_SIDE / max(latent.width, latent.height)
    small = replace(
        latent,
        clarity=1.0,
        width=max(8, round(latent.width * factor)),
        height=max(8, round(latent.height * factor)),
    )
    return _picture(small, latent.seed, 0).convert("RGB")


MODEL, CLIP, VAE, CONDITIONING, LATENT, IMAGE = (
    ["MODEL"],
    ["CLIP"],
    ["VAE"],
    ["CONDITIONING"],
    ["LATENT"],
    ["IMAGE"],
)
SEED = INT(0, 0, 2**64 - 1, control_after_generate=True)
CFG = FLOAT(8.0, 0.0, 100.0, step=0.1, round=0.01)
SWITCH = ["enable", "disable"]
TEXT = ["STRING", {"multiline": True, "dynamicPrompts": True}]
STRENGTH = FLOAT(1.0, -100.0, 100.0, step=0.01)
SCALING = CHOICE(["nearest-exact", "bilinear", "area", "bicubic", "bislerp"])


def size(default: int, low: int = 16, step: int = 8) -> Any:
    """A side of a latent, pixels."""
    return INT(default, low, SIDE, step=step)


LOADERS = [
    Node(
        "CheckpointLoaderSimple",
        checkpoint,
        {"ckpt_name": CHOICE("@checkpoints")},
        outputs=("MODEL", "CLIP", "VAE"),
        category="loaders",
        display_name="Load Checkpoint",
    ),
    Node(
        "VAELoader",
        load_one,
        {"vae_name": CHOICE("@vae")},
        outputs=("VAE",),
        category="loaders",
        display_name="Load VAE",
    ),
    Node(
        "UNETLoader",
        load_one,
        {
            "unet_name": CHOICE("@diffusion_models"),
            "weight_dtype": CHOICE(["default", "fp8_e4m3fn", "fp8_e4m3fn_fast", "fp8_e5m2"]),
        },
        outputs=("MODEL",),
        category="advanced/loaders",
        display_name="Load Diffusion Model",
    ),
    Node(
        "CLIPLoader",
        load_one,
        {
            "clip_name": CHOICE("@text_encoders"),
            "type": CHOICE(CLIP_TYPES),
        },
        {"device": CHOICE(["default", "cpu"], advanced=True)},
        outputs=("CLIP",),
        category="advanced/loaders",
        display_name="Load CLIP",
    ),
    Node(
        "DualCLIPLoader",
        load_one,
        {
            "clip_name1": CHOICE("@text_encoders"),
            "clip_name2": CHOICE("@text_encoders"),
            "type": CHOICE(DUAL_CLIP_TYPES),
        },
        {"device": CHOICE(["default", "cpu"], advanced=True)},
        outputs=("CLIP",),
        category="advanced/loaders",
    ),
    Node(
        "LoraLoader",
        lora,
        {
            "model": MODEL,
            "clip": CLIP,
            "lora_name": CHOICE("@loras"),
            "strength_model": STRENGTH,
            "strength_clip": STRENGTH,
        },
        outputs=("MODEL", "CLIP"),
        category="loaders",
        display_name="Load LoRA",
    ),
    Node(
        "LoraLoaderModelOnly",
        lora_model,
        {"model": MODEL, "lora_name": CHOICE("@loras"), "strength_model": STRENGTH},
        outputs=("MODEL",),
        category="loaders",
    ),
    Node(
        "UpscaleModelLoader",
        load_one,
        {"model_name": CHOICE("@upscale_models")},
        outputs=("UPSCALE_MODEL",),
        category="loaders",
    ),
]

GUIDANCE = [
    Node(
        "CLIPTextEncode",
        encode_text,
        {"text": TEXT, "clip": CLIP},
        outputs=("CONDITIONING",),
        category="conditioning",
        display_name="CLIP Text Encode (Prompt)",
    ),
    Node(
        "CLIPTextEncodeSDXL",
        encode_text,
        {
            "clip": CLIP,
            "width": INT(1024, 0, SIDE),
            "height": INT(1024, 0, SIDE),
            "crop_w": INT(0, 0, SIDE),
            "crop_h": INT(0, 0, SIDE),
            "target_width": INT(1024, 0, SIDE),
            "target_height": INT(1024, 0, SIDE),
            "text_g": TEXT,
            "text_l": TEXT,
        },
        outputs=("CONDITIONING",),
        category="advanced/conditioning",
    ),
    Node(
        "CLIPTextEncodeFlux",
        encode_text,
        {"clip": CLIP, "clip_l": TEXT, "t5xxl": TEXT, "guidance": FLOAT(3.5, 0.0, 100.0, step=0.1)},
        outputs=("CONDITIONING",),
        category="advanced/conditioning/flux",
    ),
    Node(
        "CLIPSetLastLayer",
        passed,
        {"clip": CLIP, "stop_at_clip_layer": INT(-1, -24, -1, step=1)},
        outputs=("CLIP",),
        category="conditioning",
    ),
    Node(
        "FluxGuidance",
        passed,
        {"conditioning": CONDITIONING, "guidance": FLOAT(3.5, 0.0, 100.0, step=0.1)},
        outputs=("CONDITIONING",),
        category="advanced/conditioning/flux",
    ),
    Node(
        "ConditioningZeroOut",
        zero_out,
        {"conditioning": CONDITIONING},
        outputs=("CONDITIONING",),
        category="advanced/conditioning",
    ),
    Node(
        "ConditioningCombine",
        combine,
        {"conditioning_1": CONDITIONING, "conditioning_2": CONDITIONING},
        outputs=("CONDITIONING",),
        category="conditioning",
    ),
    Node(
        "ModelSamplingFlux",
        passed,
        {
            "model": MODEL,
            "max_shift": FLOAT(1.15, 0.0, 100.0, step=0.01),
            "base_shift": FLOAT(0.5, 0.0, 100.0, step=0.01),
            "width": size(1024),
            "height": size(1024),
        },
        outputs=("MODEL",),
        category="advanced/model",
    ),
    Node(
        "ModelSamplingSD3",
        passed,
        {"model": MODEL, "shift": FLOAT(3.0, 0.0, 100.0, step=0.01)},
        outputs=("MODEL",),
        category="advanced/model",
    ),
    Node(
        "BasicGuider",
        basic_guider,
        {"model": MODEL, "conditioning": CONDITIONING},
        outputs=("GUIDER",),
        category="sampling/custom_sampling/guiders",
    ),
    Node(
        "CFGGuider",
        cfg_guider,
        {"model": MODEL, "positive": CONDITIONING, "negative": CONDITIONING, "cfg": CFG},
        outputs=("GUIDER",),
        category="sampling/custom_sampling/guiders",
    ),
]

LATENTS = [
    Node(
        "EmptyLatentImage",
        empty_latent,
        {"width": size(512), "height": size(512), "batch_size": INT(1, 1, 4096)},
        outputs=("LATENT",),
        category="latent",
        display_name="Empty Latent Image",
    ),
    Node(
        "EmptySD3LatentImage",
        empty_latent,
        {"width": size(1024, step=16), "height": size(1024, step=16), "batch_size": INT(1, 1, 4096)},
        outputs=("LATENT",),
        category="latent/sd3",
    ),
    Node(
        "VAEEncode",
        encode_images,
        {"pixels": IMAGE, "vae": VAE},
        outputs=("LATENT",),
        category="latent",
        display_name="VAE Encode",
    ),
    Node(
        "VAEEncodeForInpaint",
        encode_images,
        {"pixels": IMAGE, "vae": VAE, "mask": ["MASK"], "grow_mask_by": INT(6, 0, 64, step=1)},
        outputs=("LATENT",),
        category="latent/inpaint",
    ),
    Node(
        "SetLatentNoiseMask",
        keep_mask,
        {"samples": LATENT, "mask": ["MASK"]},
        outputs=("LATENT",),
        category="latent/inpaint",
    ),
    Node(
        "VAEDecode",
        decode,
        {"samples": LATENT, "vae": VAE},
        outputs=("IMAGE",),
        category="latent",
        display_name="VAE Decode",
    ),
    Node(
        "VAEDecodeTiled",
        decode_tiled,
        {
            "samples": LATENT,
            "vae": VAE,
            "tile_size": INT(512, 64, 4096, step=32),
            "overlap": INT(64, 0, 4096, step=32),
            "temporal_size": INT(64, 8, 4096, step=4),
            "temporal_overlap": INT(8, 4, 4096, step=4),
        },
        outputs=("IMAGE",),
        category="experimental",
    ),
    Node(
        "LatentUpscale",
        upscale_latent,
        {
            "samples": LATENT,
            "upscale_method": SCALING,
            "width": size(512, 0),
            "height": size(512, 0),
            "crop": CHOICE(["disabled", "center"]),
        },
        outputs=("LATENT",),
        category="latent",
    ),
    Node(
        "LatentUpscaleBy",
        upscale_latent_by,
        {"samples": LATENT, "upscale_method": SCALING, "scale_by": FLOAT(1.5, 0.01, 8.0, step=0.01)},
        outputs=("LATENT",),
        category="latent",
    ),
    Node(
        "ImageUpscaleWithModel",
        upscale_with_model,
        {"upscale_model": ["UPSCALE_MODEL"], "image": IMAGE},
        outputs=("IMAGE",),
        category="image/upscaling",
    ),
]

SAMPLING = [
    Node(
        "KSampler",
        ksampler,
        {
            "model": MODEL,
            "seed": SEED,
            "steps": INT(20, 1, 10000),
            "cfg": CFG,
            "sampler_name": CHOICE(SAMPLERS),
            "scheduler": CHOICE(SCHEDULERS),
            "positive": CONDITIONING,
            "negative": CONDITIONING,
            "latent_image": LATENT,
            "denoise": FLOAT(1.0, 0.0, 1.0, step=0.01),
        },
        outputs=("LATENT",),
        category="sampling",
    ),
    Node(
        "KSamplerAdvanced",
        ksampler_advanced,
        {
            "model": MODEL,
            "add_noise": CHOICE(SWITCH),
            "noise_seed": SEED,
            "steps": INT(20, 1, 10000),
            "cfg": CFG,
            "sampler_name": CHOICE(SAMPLERS),
            "scheduler": CHOICE(SCHEDULERS),
            "positive": CONDITIONING,
            "negative": CONDITIONING,
            "latent_image": LATENT,
            "start_at_step": INT(0, 0, 10000),
            "end_at_step": INT(10000, 0, 10000),
            "return_with_leftover_noise": CHOICE(["disable", "enable"]),
        },
        outputs=("LATENT",),
        category="sampling",
        display_name="KSampler (Advanced)",
    ),
    Node(
        "SamplerCustomAdvanced",
        sample_custom,
        {
            "noise": ["NOISE"],
            "guider": ["GUIDER"],
            "sampler": ["SAMPLER"],
            "sigmas": ["SIGMAS"],
            "latent_image": LATENT,
        },
        outputs=("LATENT", "LATENT"),
        output_names=("output", "denoised_output"),
        category="sampling/custom_sampling",
    ),
    Node(
        "RandomNoise",
        random_noise,
        {"noise_seed": SEED},
        outputs=("NOISE",),
        category="sampling/custom_sampling/noise",
    ),
    Node("DisableNoise", no_noise, outputs=("NOISE",), category="sampling/custom_sampling/noise"),
    Node(
        "KSamplerSelect",
        select_sampler,
        {"sampler_name": CHOICE(SAMPLERS)},
        outputs=("SAMPLER",),
        category="sampling/custom_sampling/samplers",
    ),
    Node(
        "BasicScheduler",
        basic_scheduler,
        {
            "model": MODEL,
            "scheduler": CHOICE(SCHEDULERS),
            "steps": INT(20, 1, 10000),
            "denoise": FLOAT(1.0, 0.0, 1.0, step=0.01),
        },
        outputs=("SIGMAS",),
        category="sampling/custom_sampling/schedulers",
    ),
    Node(
        "KarrasScheduler",
        karras_scheduler,
        {
            "steps": INT(20, 1, 10000),
            "sigma_max": FLOAT(14.614642, 0.0, 5000.0, step=0.01),
            "sigma_min": FLOAT(0.0291675, 0.0, 5000.0, step=0.01),
            "rho": FLOAT(7.0, 0.0, 100.0, step=0.01),
        },
        outputs=("SIGMAS",),
        category="sampling/custom_sampling/schedulers",
    ),
]

NODES = [*LOADERS, *GUIDANCE, *LATENTS, *SAMPLING]
