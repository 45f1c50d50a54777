"""What travels along the links between simulated nodes."""

from dataclasses import dataclass, field, replace

from PIL import Image


@dataclass(frozen=True, slots=True)
class Images:
    """IMAGE: one picture or several of one size."""

    frames: tuple[Image.Image, ...]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(count, height, width, channels), as a tensor of the real server would say."""
        width, height = self.frames[0].size
        return (len(self.frames), height, width, len(self.frames[0].getbands()))

    def __repr__(self) -> str:
        return f"tensor(shape={self.shape})"


@dataclass(frozen=True, slots=True)
class Masks:
    """MASK: grey pictures, white where the mask is."""

    frames: tuple[Image.Image, ...]


@dataclass(frozen=True, slots=True)
class Model:
    """MODEL, CLIP, VAE, CONTROL_NET...: which file it came from, and what was patched onto it."""

    name: str
    patches: tuple[str, ...] = ()

    def patched(self, patch: str) -> "Model":
        """The same model with one more patch."""
        return replace(self, patches=(*self.patches, patch))


@dataclass(frozen=True, slots=True)
class Conditioning:
    """CONDITIONING: the text that guides a sampler."""

    text: str


@dataclass(frozen=True, slots=True)
class Latent:
    """LATENT: a size, and, once sampled, what will be seen when it is decoded.

    `seed` and `text` decide the picture, `clarity` (0..1) how much of it can be made out. `source`: the
    pictures that were encoded into it.
    """

    width: int
    height: int
    count: int = 1
    seed: int = 0
    text: str = ""
    clarity: float = 0.0
    source: Images | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Played:
    """A value of any other type: a placeholder that remembers which node class made it."""

    type: str
    made_by: str
