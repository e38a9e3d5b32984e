"""QLoRA: LoRA on a base whose frozen linear layers are kept in 4 bits.

Dettmers et al., QLoRA: Efficient Finetuning of Quantized LLMs (2023),
https://arxiv.org/abs/2305.14314. By the bitsandbytes library (`pip install
'peft-ablation[quantisation]'`), on a GPU or a CPU. All `nn.Linear` layers but the output head and
the task's heads are quantised, whether they are targets or not, as transformers'
`BitsAndBytesConfig` does it. Embeddings, norms, biases and heads stay in float32, as PEFT's
`prepare_model_for_kbit_training` leaves them.

The adapter is one of the *rounded* base: on the base as it was it is another model. So predictions,
and whoever merges, round the base first (float32 again, of the 4-bit values), then add the adapter;
merging into 4 bits would round what was learnt.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

from pydantic import field_validator

from peft_ablation.bases.architectures import (
    Architecture,
    architecture,
    known_classes,
    model_architecture,
)
from peft_ablation.errors import InputError
from peft_ablation.methods import ArmSettings, Weights
from peft_ablation.methods._modules import within
from peft_ablation.methods.lora import Lora, LoraSettings

if TYPE_CHECKING:
    from torch import Tensor, nn

    from peft_ablation.bases.quantisation import FourBits
    from peft_ablation.methods import Batches, LoadModel

_INITS: Final = ("default", "gaussian")
_KEY: Final = "method qlora"


class QloraSettings(LoraSettings):
    """Keys of a QLoRA arm."""

    quant_type: Literal["nf4", "fp4"] = "nf4"
    """Numbers that 4 bits stand for: quantiles of a normal distribution, or floats."""
    double_quant: bool = True
    """Keep the scales of blocks in 8 bits too: 4.13 bits a weight, not 4.5."""
    compute_dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Type that products of the 4-bit layers are computed in; float32 leaves it to
    `train.precision`."""
    init: str = "default"
    """Initial values: default or gaussian."""

    @field_validator("init")
    @classmethod
    def _init_leaves_the_base(cls, value: str) -> str:
        if value not in _INITS:
            raise ValueError(
                f"found {value!r}, allowed on a base in 4 bits: {', '.join(_INITS)}; others read "
                "or change its weights"
            )
        return value


class Qlora(Lora):
    """Low-rank adapters on a base in 4 bits."""

    Settings: ClassVar[type[ArmSettings]] = QloraSettings
    libraries: ClassVar[tuple[str, ...]] = (*Lora.libraries, "bitsandbytes")

    def check(self, architecture: Architecture | None) -> None:
        """Refuse targets that are no linear layers, and a base without any to quantise."""
        if architecture is not None:
            odd = next((m.name for m in architecture.modules if m.kind == "Conv1D"), None)
            if odd is not None:
                raise InputError(
                    f"method: qlora keeps linear layers in 4 bits, but {architecture.class_name} "
                    f"has Conv1D in their place ({odd}); choose lora, or a base such as Llama"
                )
            if not _quantised(architecture, ()):
                raise InputError(
                    f"method: qlora keeps linear layers in 4 bits, but {architecture.class_name} "
                    "has none besides its head; choose lora"
                )
        super().check(architecture)

    def changes(self, module: str, architecture: Architecture) -> bool:
        """Tell whether a module is adapted or rounded, or a normalisation layer that is trained."""
        return super().changes(module, architecture) or module in _quantised(architecture, ())

    def apply(
        self,
        model: "nn.Module",
        *,
        seed: int,
        heads: Sequence[str],
        steps: int,
        batches: "Batches",
        state: "Mapping[str, Tensor] | None" = None,
    ) -> "nn.Module":
        """Return `model`, its frozen linear layers in 4 bits, wrapped by PEFT."""
        from peft_ablation.bases.quantisation import bitsandbytes, misread, quantise

        library, own = bitsandbytes(_KEY), model_architecture(model)
        self.check(own)
        kept = [*heads, *_output(model)]
        quantise(model, _quantised(own, kept), self._four_bits, library)
        wrong = misread(model, library) if self.arm["dora"] else None
        if wrong is not None:
            raise InputError(
                f"dora: PEFT measures 4-bit weights as bitsandbytes {library.__version__} reads "
                f"them, which gets those of {wrong} wrong on this CPU; set dora to false"
            )
        return super().apply(
            model, seed=seed, heads=heads, steps=steps, batches=batches, state=state
        )

    def expected_weights(self, model: "nn.Module", *, heads: Sequence[str], steps: int) -> Weights:
        """Return LoRA's, with the frozen linear layers in 4 bits; nothing is quantised for it."""
        from peft_ablation.bases.quantisation import stored_bytes

        names = _quantised(model_architecture(model), [*heads, *_output(model)])
        whole: list[Any] = [model.get_submodule(name).weight for name in names]
        plain = Lora(self.arm).expected_weights(model, heads=heads, steps=steps)
        saved = sum(weight.nbytes for weight in whole) - stored_bytes(
            sum(weight.numel() for weight in whole), self._four_bits
        )
        return Weights(plain.frozen - saved, plain.trained)

    def load(self, load_model: "LoadModel", base: str | Path, folder: str | Path) -> "nn.Module":
        """Return the base, rounded to its 4 bits, in float32, with the adapter merged into it."""
        from peft_ablation.bases.quantisation import bitsandbytes, dequantise

        library = bitsandbytes(_KEY)

        def rounded(folder: str | Path) -> "nn.Module":
            model = load_model(folder)
            # Heads of the task may be rounded here: the trained ones take their place.
            names = _quantised(model_architecture(model), _output(model))
            dequantise(model, names, self._four_bits, library)
            return model

        return super().load(rounded, base, folder)

    def loading(self, class_name: str) -> str:
        """Return the Python that loads a saved `folder` onto the `base` in 4 bits."""
        arm = self.arm
        skipped = f", llm_int8_skip_modules={_heads(class_name)}" if _heads(class_name) else ""
        config = (
            f'BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="{arm["quant_type"]}", '
            f"bnb_4bit_use_double_quant={arm['double_quant']}, "
            f"bnb_4bit_compute_dtype=torch.{arm['compute_dtype']}{skipped})"
        )
        loaded = (
            f"{class_name}.from_pretrained(base, dtype=torch.float32, quantization_config={config})"
        )
        return f"PeftModel.from_pretrained({loaded}, folder)"

    @property
    def _four_bits(self) -> "FourBits":
        from peft_ablation.bases.quantisation import FourBits

        arm = self.arm
        return FourBits(arm["quant_type"], arm["double_quant"], arm["compute_dtype"])

    @property
    def _kinds(self) -> tuple[str, ...]:
        return ("Linear",)

    @property
    def _name(self) -> str:
        return "qlora"


def _quantised(own: Architecture, kept: Sequence[str]) -> list[str]:
    """Return the linear layers of an architecture, less those of its heads and of `kept`."""
    whole = [*own.heads, *kept]
    return [m.name for m in own.modules if m.kind == "Linear" and not within(m.name, whole)]


def _output(model: Any) -> list[str]:
    """Return the module that writes words, of a class that the architectures do not describe."""
    head = model.get_output_embeddings()
    return [name for name, module in model.named_modules() if head is not None and module is head]


def _heads(class_name: str) -> list[str]:
    own = architecture(class_name, {}) if class_name in known_classes() else None
    return list(own.heads) if own is not None else []


METHOD = Qlora
