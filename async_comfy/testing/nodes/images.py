"""Image nodes that really run, with Pillow: what they make is what a real server would make."""

import json
import uuid
from collections.abc import Callable
from typing import Any

from PIL import Image, ImageChops, ImageFilter, ImageOps, PngImagePlugin

from async_comfy.testing.call import Call
from async_comfy.testing.nodes.node import BOOLEAN, CHOICE, FLOAT, INT, STRING, Node, Shown
from async_comfy.testing.nodes.values import Images, Masks

SIDE = 16384  # the largest side that core nodes take, pixels
SCALERS = {
    "nearest-exact": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "area": Image.Resampling.BOX,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
HIDDEN = {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"}


def each(images: Images, change: Callable[[Image.Image], Image.Image]) -> tuple[Images]:
    """The same change made to every picture."""
    return (Images(tuple(change(frame) for frame in images.frames)),)


def empty_image(call: Call, width: int, height: int, batch_size: int, color: int) -> tuple[Images]:
    """Pictures of one colour."""
    rgb = (color >> 16 & 0xFF, color >> 8 & 0xFF, color & 0xFF)
    return (Images((Image.new("RGB", (width, height), rgb),) * batch_size),)


def load_image(call: Call, image: str) -> tuple[Images, Masks]:
    """A picture of the input folder, and what is transparent in it."""
    path = call.folders.find(image)
    if path is None:
        raise FileNotFoundError(f"no such file: {image}")
    with Image.open(path) as opened:
        picture = ImageOps.exif_transpose(opened)
        transparent = "A" in picture.getbands()
        alpha = picture.getchannel("A") if transparent else Image.new("L", (64, 64), 255)
        return Images((picture.convert("RGB"),)), Masks((ImageOps.invert(alpha),))


def load_mask(call: Call, image: str, channel: str) -> tuple[Masks]:
    """One channel of a picture of the input folder."""
    path = call.folders.find(image)
    if path is None:
        raise FileNotFoundError(f"no such file: {image}")
    with Image.open(path) as opened:
        picture = opened.convert("RGBA")
    grey = picture.getchannel("RGBA"[["red", "green", "blue", "alpha"].index(channel)])
    return (Masks((ImageOps.invert(grey) if channel == "alpha" else grey,)),)


def file_stamp(folders: Any, image: str = "", **others: Any) -> Any:
    """When an input file changed, so that the same name with new bytes is loaded again."""
    path = folders.find(image)
    return None if path is None else path.stat().st_mtime_ns


def never_twice(folders: Any, **inputs: Any) -> str:
    """Something else each time: the node runs in every prompt."""
    return uuid.uuid4().hex


def file_there(catalog: Any, image: str = "", **others: Any) -> bool | str:
    """Whether an input file is there, as LoadImage checks it."""
    return True if catalog.folders.find(image) is not None else f"Invalid image file: {image}"


def scale(picture: Image.Image, method: str, width: int, height: int, crop: str = "disabled") -> Image.Image:
    """One picture in another size; a side of 0 follows from the other; "center" cuts what does not fit."""
    if width == 0 and height == 0:
        return picture
    width = width or max(1, round(picture.width * height / picture.height))
    height = height or max(1, round(picture.height * width / picture.width))
    if crop == "center":
        return ImageOps.fit(picture, (width, height), SCALERS[method])
    return picture.resize((width, height), SCALERS[method])


def image_scale(
    call: Call, image: Images, upscale_method: str, width: int, height: int, crop: str
) -> tuple[Images]:
    """Pictures in another size."""
    return each(image, lambda frame: scale(frame, upscale_method, width, height, crop))


def image_scale_by(call: Call, image: Images, upscale_method: str, scale_by: float) -> tuple[Images]:
    """Pictures so many times as large."""
    width, height = image.frames[0].size
    return each(
        image, lambda frame: scale(frame, upscale_method, round(width * scale_by), round(height * scale_by))
    )


def image_invert(call: Call, image: Images) -> tuple[Images]:
    """Negatives."""
    return each(image, lambda frame: ImageOps.invert(frame.convert("RGB")))


def image_batch(call: Call, image1: Images, image2: Images) -> tuple[Images]:
    """Both, the second in the size of the first."""
    size = image1.frames[0].size
    fitted = (
        frame if frame.size == size else scale(frame, "bilinear", *size, "center") for frame in image2.frames
    )
    return (Images((*image1.frames, *fitted)),)


def repeat_batch(call: Call, image: Images, amount: int) -> tuple[Images]:
    """The pictures several times over."""
    return (Images(image.frames * amount),)


def from_batch(call: Call, image: Images, batch_index: int, length: int) -> tuple[Images]:
    """Some of the pictures."""
    count = len(image.frames)
    start = min(count - 1, batch_index if batch_index >= 0 else max(0, count + batch_index))
    return (Images(image.frames[start : start + length]),)


BLENDS: dict[str, Callable[[Image.Image, Image.Image], Image.Image]] = {
    "normal": lambda below, above: above,
    "multiply": ImageChops.multiply,
    "screen": ImageChops.screen,
    "overlay": ImageChops.overlay,
    "soft_light": ImageChops.soft_light,
    "difference": ImageChops.subtract,
}


def image_blend(
    call: Call, image1: Images, image2: Images, blend_factor: float, blend_mode: str
) -> tuple[Images]:
    """The second over the first."""
    above = scale(image2.frames[0], "bicubic", *image1.frames[0].size, "center").convert("RGB")
    mix = BLENDS[blend_mode]
    return each(
        image1,
        lambda frame: Image.blend(frame.convert("RGB"), mix(frame.convert("RGB"), above), blend_factor),
    )


def image_blur(call: Call, image: Images, blur_radius: int, sigma: float) -> tuple[Images]:
    """Blurred pictures."""
    return each(image, lambda frame: frame.filter(ImageFilter.GaussianBlur(min(blur_radius, sigma * 2))))


def image_sharpen(
    call: Call, image: Images, sharpen_radius: int, sigma: float, alpha: float
) -> tuple[Images]:
    """Sharpened pictures."""
    return each(image, lambda frame: frame.filter(ImageFilter.UnsharpMask(sharpen_radius, int(alpha * 100))))


def image_crop(call: Call, image: Images, width: int, height: int, x: int, y: int) -> tuple[Images]:
    """A part of each picture."""
    left, top = min(x, image.frames[0].width - 1), min(y, image.frames[0].height - 1)
    return each(
        image,
        lambda frame: frame.crop(
            (left, top, min(left + width, frame.width), min(top + height, frame.height))
        ),
    )


def image_size(call: Call, image: Images) -> Shown:
    """Width, height and count, also as text."""
    count, height, width, _ = image.shape
    text = f"width: {width}, height: {height}\n batch size: {count}"
    return Shown({"text": [text]}, (width, height, count))


def mask_to_image(call: Call, mask: Masks) -> tuple[Images]:
    """A mask as a grey picture."""
    return (Images(tuple(frame.convert("RGB") for frame in mask.frames)),)


def image_to_mask(call: Call, image: Images, channel: str) -> tuple[Masks]:
    """One channel as a mask."""
    band = "RGBA"[["red", "green", "blue", "alpha"].index(channel)]
    return (Masks(tuple(frame.convert("RGBA").getchannel(band) for frame in image.frames)),)


def solid_mask(call: Call, value: float, width: int, height: int) -> tuple[Masks]:
    """A mask of one value."""
    return (Masks((Image.new("L", (width, height), round(value * 255)),)),)


def invert_mask(call: Call, mask: Masks) -> tuple[Masks]:
    """The mask turned round."""
    return (Masks(tuple(ImageOps.invert(frame) for frame in mask.frames)),)


def png_text(call: Call) -> PngImagePlugin.PngInfo:
    """What ComfyUI embeds in its PNGs: the prompt, and each part of `extra_pnginfo`, as JSON."""
    text = PngImagePlugin.PngInfo()
    text.add_text("prompt", json.dumps(call.prompt))
    for name, value in call.pnginfo.items():
        text.add_text(name, json.dumps(value))
    return text


def write(call: Call, images: Images, prefix: str, kind: Any, level: int) -> dict[str, Any]:
    """Saves each picture under the next number; what the server says of them."""
    text, told = png_text(call), []
    count = images.shape[0]  # what is no picture falls over here, with the words of the real server
    for index, frame in enumerate(images.frames[:count]):
        name = prefix.replace("%batch_num%", str(index))
        path, subfolder = call.folders.next(kind, name, ".png", *frame.size)
        frame.save(path, "PNG", pnginfo=text, compress_level=level)
        told.append({"filename": path.name, "subfolder": subfolder, "type": kind})
    return {"images": told}


def save_image(call: Call, images: Images, filename_prefix: str) -> Shown:
    """Saves PNGs to the output folder."""
    return Shown(write(call, images, filename_prefix, "output", 4), (images,))


def preview_image(call: Call, images: Images) -> Shown:
    """Saves PNGs to the temp folder."""
    return Shown(write(call, images, call.temp_prefix, "temp", 1), (images,))


def preview_mask(call: Call, mask: Masks) -> Shown:
    """Saves a mask to the temp folder."""
    return Shown(write(call, mask_to_image(call, mask)[0], call.temp_prefix, "temp", 1), (mask,))


async def send_images(call: Call, images: Images) -> None:
    """SaveImageWebsocket: each picture whole, as a preview frame, and nothing on disk."""
    for index, frame in enumerate(images.frames):
        await call.step(index, len(images.frames), frame, form="PNG", side=None)


def save_animated(
    call: Call, images: Images, filename_prefix: str, fps: float, form: str, **options: Any
) -> Shown:
    """All pictures as one moving one."""
    first, *rest = images.frames
    path, subfolder = call.folders.next("output", filename_prefix, f".{form}", *first.size)
    first.save(path, form.upper(), save_all=True, append_images=rest, duration=int(1000 / fps), **options)
    told = {"filename": path.name, "subfolder": subfolder, "type": "output"}
    return Shown({"images": [told], "animated": [len(images.frames) != 1]}, (images,))


def save_webp(
    call: Call, images: Images, filename_prefix: str, fps: float, lossless: bool, quality: int, method: str
) -> Shown:
    """SaveAnimatedWEBP."""
    effort = {"default": 4, "fastest": 0, "slowest": 6}[method]
    return save_animated(
        call, images, filename_prefix, fps, "webp", lossless=lossless, quality=quality, method=effort
    )


def save_apng(call: Call, images: Images, filename_prefix: str, fps: float, compress_level: int) -> Shown:
    """SaveAnimatedPNG."""
    return save_animated(
        call, images, filename_prefix, fps, "png", compress_level=compress_level, pnginfo=png_text(call)
    )


def preview_any(call: Call, source: Any) -> Shown:
    """Shows any value as text."""
    text = source if isinstance(source, str) else repr(source) if not _plain(source) else json.dumps(source)
    return Shown({"text": [text]}, (text,))


def same(call: Call, value: Any) -> tuple[Any]:
    """A primitive: what it is given."""
    return (value,)


def _plain(value: Any) -> bool:
    return isinstance(value, bool | int | float | str | list | dict) or value is None


IMAGE, MASK = ["IMAGE"], ["MASK"]
UPLOAD = CHOICE("@input", image_upload=True)
METHODS = list(SCALERS)
LIMIT = 2**63 - 1  # what a primitive number may be

NODES = [
    Node(
        "EmptyImage",
        empty_image,
        {
            "width": INT(512, 1, SIDE, step=1),
            "height": INT(512, 1, SIDE, step=1),
            "batch_size": INT(1, 1, 4096),
            "color": INT(0, 0, 0xFFFFFF, step=1, display="color"),
        },
        outputs=("IMAGE",),
        category="image",
        display_name="Empty Image",
    ),
    Node(
        "LoadImage",
        load_image,
        {"image": UPLOAD},
        outputs=("IMAGE", "MASK"),
        category="image",
        display_name="Load Image",
        changed=file_stamp,
        valid=file_there,
    ),
    Node(
        "LoadImageMask",
        load_mask,
        {"image": UPLOAD, "channel": CHOICE(["alpha", "red", "green", "blue"])},
        outputs=("MASK",),
        category="image",
        display_name="Load Image (as Mask)",
        changed=file_stamp,
        valid=file_there,
    ),
    Node(
        "SaveImage",
        save_image,
        {
            "images": IMAGE,
            "filename_prefix": STRING("ComfyUI"),
        },
        hidden=HIDDEN,
        outputs=("IMAGE",),
        output_names=("images",),
        output_node=True,
        category="image",
        display_name="Save Image",
    ),
    Node(
        "PreviewImage",
        preview_image,
        {"images": IMAGE},
        hidden=HIDDEN,
        outputs=("IMAGE",),
        output_names=("images",),
        output_node=True,
        category="image",
        display_name="Preview Image",
    ),
    Node(
        "SaveImageWebsocket",
        send_images,
        {"images": IMAGE},
        output_node=True,
        category="api/image",
        module="custom_nodes.websocket_image_save",
        changed=never_twice,
    ),
    Node(
        "SaveAnimatedWEBP",
        save_webp,
        {
            "images": IMAGE,
            "filename_prefix": STRING("ComfyUI"),
            "fps": FLOAT(6.0, 0.01, 1000.0, step=0.01),
            "lossless": BOOLEAN(True),
            "quality": INT(80, 0, 100),
            "method": CHOICE(["default", "fastest", "slowest"]),
        },
        hidden=HIDDEN,
        outputs=("IMAGE",),
        output_names=("images",),
        output_node=True,
        category="image",
    ),
    Node(
        "SaveAnimatedPNG",
        save_apng,
        {
            "images": IMAGE,
            "filename_prefix": STRING("ComfyUI"),
            "fps": FLOAT(6.0, 0.01, 1000.0, step=0.01),
            "compress_level": INT(4, 0, 9),
        },
        hidden=HIDDEN,
        outputs=("IMAGE",),
        output_names=("images",),
        output_node=True,
        category="image",
    ),
    Node(
        "ImageScale",
        image_scale,
        {
            "image": IMAGE,
            "upscale_method": CHOICE(METHODS),
            "width": INT(512, 0, SIDE, step=1),
            "height": INT(512, 0, SIDE, step=1),
            "crop": CHOICE(["disabled", "center"]),
        },
        outputs=("IMAGE",),
        category="image/upscaling",
        display_name="Upscale Image",
    ),
    Node(
        "ImageScaleBy",
        image_scale_by,
        {"image": IMAGE, "upscale_method": CHOICE(METHODS), "scale_by": FLOAT(1.0, 0.01, 8.0, step=0.01)},
        outputs=("IMAGE",),
        category="image/upscaling",
        display_name="Upscale Image By",
    ),
    Node(
        "ImageInvert",
        image_invert,
        {"image": IMAGE},
        outputs=("IMAGE",),
        category="image",
        display_name="Invert Image",
    ),
    Node("ImageBatch", image_batch, {"image1": IMAGE, "image2": IMAGE}, outputs=("IMAGE",), category="image"),
    Node(
        "RepeatImageBatch",
        repeat_batch,
        {"image": IMAGE, "amount": INT(1, 1, 4096)},
        outputs=("IMAGE",),
        category="image",
    ),
    Node(
        "ImageFromBatch",
        from_batch,
        {"image": IMAGE, "batch_index": INT(0, -SIDE, SIDE), "length": INT(1, 1, 4096)},
        outputs=("IMAGE",),
        category="image",
    ),
    Node(
        "ImageBlend",
        image_blend,
        {
            "image1": IMAGE,
            "image2": IMAGE,
            "blend_factor": FLOAT(0.5, 0.0, 1.0, step=0.01),
            "blend_mode": CHOICE(list(BLENDS)),
        },
        outputs=("IMAGE",),
        category="image/postprocessing",
    ),
    Node(
        "ImageBlur",
        image_blur,
        {"image": IMAGE, "blur_radius": INT(1, 1, 31, step=1), "sigma": FLOAT(1.0, 0.1, 10.0, step=0.1)},
        outputs=("IMAGE",),
        category="image/postprocessing",
    ),
    Node(
        "ImageSharpen",
        image_sharpen,
        {
            "image": IMAGE,
            "sharpen_radius": INT(1, 1, 31, step=1),
            "sigma": FLOAT(1.0, 0.1, 10.0, step=0.01),
            "alpha": FLOAT(1.0, 0.0, 5.0, step=0.01),
        },
        outputs=("IMAGE",),
        category="image/postprocessing",
    ),
    Node(
        "ImageCrop",
        image_crop,
        {
            "image": IMAGE,
            "width": INT(512, 1, SIDE, step=1),
            "height": INT(512, 1, SIDE, step=1),
            "x": INT(0, 0, SIDE, step=1),
            "y": INT(0, 0, SIDE, step=1),
        },
        outputs=("IMAGE",),
        category="image/transform",
    ),
    Node(
        "GetImageSize",
        image_size,
        {"image": IMAGE},
        hidden={"unique_id": "UNIQUE_ID"},
        outputs=("INT", "INT", "INT"),
        output_names=("width", "height", "batch_size"),
        category="image",
    ),
    Node("MaskToImage", mask_to_image, {"mask": MASK}, outputs=("IMAGE",), category="mask"),
    Node(
        "ImageToMask",
        image_to_mask,
        {"image": IMAGE, "channel": CHOICE(["red", "green", "blue", "alpha"])},
        outputs=("MASK",),
        category="mask",
    ),
    Node(
        "SolidMask",
        solid_mask,
        {
            "value": FLOAT(1.0, 0.0, 1.0, step=0.01),
            "width": INT(512, 1, SIDE, step=1),
            "height": INT(512, 1, SIDE, step=1),
        },
        outputs=("MASK",),
        category="mask",
    ),
    Node("InvertMask", invert_mask, {"mask": MASK}, outputs=("MASK",), category="mask"),
    Node(
        "MaskPreview",
        preview_mask,
        {"mask": MASK},
        hidden=HIDDEN,
        outputs=("MASK",),
        output_names=("mask",),
        output_node=True,
        category="mask",
    ),
    Node(
        "PreviewAny",
        preview_any,
        {"source": ["*", {}]},
        outputs=("STRING",),
        output_node=True,
        category="utilities",
        display_name="Preview as Text",
    ),
    Node(
        "PrimitiveInt",
        same,
        {"value": INT(0, -LIMIT, LIMIT)},
        outputs=("INT",),
        category="utilities/primitive",
    ),
    Node(
        "PrimitiveFloat",
        same,
        {"value": FLOAT(0.0, -float(LIMIT), float(LIMIT))},
        outputs=("FLOAT",),
        category="utilities/primitive",
    ),
    Node("PrimitiveString", same, {"value": STRING()}, outputs=("STRING",), category="utilities/primitive"),
    Node(
        "PrimitiveStringMultiline",
        same,
        {"value": STRING(multiline=True)},
        outputs=("STRING",),
        category="utilities/primitive",
    ),
    Node(
        "PrimitiveBoolean", same, {"value": BOOLEAN()}, outputs=("BOOLEAN",), category="utilities/primitive"
    ),
]
