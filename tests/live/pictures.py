"""Small workflows that the core nodes of any server run without a model."""

from async_comfy import Workflow


def picture(color: int = 0, *, save: str = "SaveImage", batch: int = 1) -> Workflow:
    """One plain picture of 16 x 16, and a node "Out" that saves or shows it."""
    workflow = Workflow()
    empty = workflow.add("EmptyImage", title="Paper", width=16, height=16, batch_size=batch, color=color)
    more = {"filename_prefix": "picture"} if save == "SaveImage" else {}
    workflow.add(save, title="Out", images=empty[0], **more)
    return workflow


def diffusion(seed: int = 1, steps: int = 4) -> Workflow:
    """Text to image with a played model."""
    workflow = Workflow()
    model = workflow.add("CheckpointLoaderSimple", ckpt_name="sd_xl_base_1.0.safetensors")
    good = workflow.add("CLIPTextEncode", title="Positive Prompt", clip=model[1], text="a red fox in snow")
    bad = workflow.add("CLIPTextEncode", title="Negative Prompt", clip=model[1], text="blurry")
    latent = workflow.add("EmptyLatentImage", width=64, height=64, batch_size=1)
    sampled = workflow.add(
        "KSampler",
        model=model[0],
        positive=good[0],
        negative=bad[0],
        latent_image=latent[0],
        seed=seed,
        steps=steps,
        cfg=7.0,
        sampler_name="euler",
        scheduler="normal",
        denoise=1.0,
    )
    decoded = workflow.add("VAEDecode", samples=sampled[0], vae=model[2])
    workflow.add("SaveImage", images=decoded[0], filename_prefix="fox")
    return workflow
