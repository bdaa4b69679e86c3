"""KerasHub's models, small, and data for them."""

import inspect
import re

import keras
import keras_hub
import numpy as np

import fr_keras
from tests import hub_backbones
from tests.hub_backbones.sizes import LENGTH, VOCABULARY

CLASSES = 3
_models = keras_hub.models
# Kinds of models, as KerasHub's documentation has them; `AudioToText`, which
# it does not export, is a `Seq2SeqLM`.
_KINDS = (
    "Seq2SeqLM",
    "CausalLM",
    "DepthEstimator",
    "ImageClassifier",
    "ImageSegmenter",
    "ImageToImage",
    "Inpaint",
    "MaskedLM",
    "ObjectDetector",
    "TextClassifier",
    "TextEmbedder",
    "TextToImage",
    "Backbone",
)
# Those whose output is a score for each class, of which one is right.
_CLASSIFYING = (
    "CausalLM",
    "ImageClassifier",
    "MaskedLM",
    "Seq2SeqLM",
    "TextClassifier",
)
# What is not made, and why.
LEFT_OUT = {
    "FluxTextToImage": "its `fit` raises NotImplementedError",
    "Gemma4AssistantCausalLM": "its `call` raises NotImplementedError",
    "SAM3PromptableConceptBackbone": "it takes batches of two examples only",
    "SAM3PromptableConceptImageSegmenter": "it takes batches of two examples "
    "only",
    "StableDiffusion3ImageToImage": "its `fit` raises NotImplementedError",
    "StableDiffusion3Inpaint": "its `fit` raises NotImplementedError",
    "StableDiffusion3TextToImage": "its `fit` raises NotImplementedError",
}
# What is refused, and the method of its own which is the reason.
REFUSED = {
    "BASNetImageSegmenter": "compute_loss",
    "DFineObjectDetector": "compute_loss",
    "PARSeqCausalLM": "compute_loss",
    "RetinaNetObjectDetector": "compute_loss",
    "SAMImageSegmenter": "predict_step",
}
# What is split into fewer than four modules, and into how many: almost all of
# it is one layer of KerasHub's.
LIMITED = {
    "DeiTBackbone": 3,
    "DeiTImageClassifier": 3,
    "Gemma3nBackbone": 3,
    "Gemma3nCausalLM": 2,
    "HGNetV2Backbone": 3,
    # What can be trained are its latents: its images come from a scheduler that
    # Keras cannot trace (and `fit` of the tasks raises NotImplementedError).
    "StableDiffusion3Backbone": 2,
    "ViTBackbone": 3,
    "ViTImageClassifier": 3,
}
# Beginnings of names: batch normalization of few values, or steps that are long
# for the model, make so much of rounding that these are compared in float64.
NOISY = (
    "BASNet",
    "CLIPTextEncoder",
    "DFine",
    "DeepLabV3",
    "EdRec",
    "Falcon",
    "Gemma3",
    "Gemma4",
    "HGNetV2",
    "MetaCLIP2Text",
    "MobileNetV5",
    "PaliGemma",
    "ResNet",
    "RetinaNet",
    "SigLIPText",
    "SmolLM3",
    "T5Gemma2",
)
# Even then, Keras run eagerly and Keras in a graph come out otherwise after
# three steps: they are compared after the first.
CHAOTIC = (
    "BASNetBackbone",
    "BASNetImageSegmenter",
    "EdRecBackbone",
    "EdRecSeq2SeqLM",
)
# On some processors, their own forward pass ends the process, in oneDNN's
# batched product of matrices (TensorFlow 2.21).
WITHOUT_ONEDNN = ("SAMBackbone",)
# What tasks take beside a backbone, classes and dropout.
_TASK_ARGUMENTS = {
    "DepthAnythingDepthEstimator": {"depth_estimation_type": "relative"},
    "MobileNetImageClassifier": {"num_features": 16},
    "VGGImageClassifier": {"pooling_hidden_dim": 16},
}
# Tasks on another variant of the backbone.
_BACKBONES = {"BLIP2Seq2SeqLM": "BLIP2Backbone, T5"}
# Tasks that are made a second time, on that variant of the backbone.
_VARIANTS = {
    "Gemma3CausalLM, images",
    "LlamaCausalLM, tied",
    "QwenCausalLM, untied",
    "T5Seq2SeqLM, untied",
}
# The dimensions that an input leaves open, where they are not LENGTH.
_OPEN_DIMENSIONS = {
    "box_labels": [1],
    "boxes": [1],
    "encoder_input_values": [1024],
    "images": [1],
    "labels": [1],
    "mask_positions": [CLASSES],
    "masks": [0, 64, 64],
    "points": [1],
    "vision_indices": [4],
}


def exported():
    """The classes of backbones and tasks in `keras_hub.models`.

    Returns:
        Dict from name to class, without those that only stand for a kind. A
        class that has several names is in it once.
    """
    found = {
        item.__name__: item
        for _, item in inspect.getmembers(_models, inspect.isclass)
        if issubclass(item, (_models.Backbone, _models.Task))
    }
    return {
        name: item
        for name, item in found.items()
        if name not in ("Backbone", "FeaturePyramidBackbone")
        and getattr(item, "backbone_cls", item) is not None
    }


def names():
    """Names for `make`, in order: what is exported, and variants."""
    known = hub_backbones.names()
    tasks = {
        name
        for name, item in exported().items()
        if issubclass(item, _models.Task)
        and item.backbone_cls.__name__ in known
    }
    return sorted({*known, *tasks, *_VARIANTS} - set(LEFT_OUT))


def kind(name):
    """What kind of model it is: the class in `keras_hub.models`.

    Args:
        name: str, among `names()`.

    Returns:
        str, for instance `"CausalLM"`.
    """
    item = exported()[name.split(",")[0]]
    return next(
        base for base in _KINDS if issubclass(item, getattr(_models, base))
    )


def make(name):
    """Makes a small model, the same weights at every call.

    Args:
        name: str, among `names()`.

    Returns:
        `keras.Model`: a task without a preprocessor, or a backbone with a
        classifier on its output.
    """
    # Names and random numbers of layers count the layers made before.
    keras.utils.clear_session()
    keras.utils.set_random_seed(1)
    if kind(name) == "Backbone":
        return _with_head(hub_backbones.make(name))
    class_name, _, variant = name.partition(",")
    item = exported()[class_name]
    backbone = _BACKBONES.get(class_name, item.backbone_cls.__name__)
    given = {
        "preprocessor": None,
        "num_classes": CLASSES,
        "dropout": 0.0,
        "backbone": hub_backbones.make(backbone + _comma(variant)),
    }
    known = inspect.signature(item).parameters
    given = {key: value for key, value in given.items() if key in known}
    if class_name == "PARSeqCausalLM":
        given["preprocessor"] = _models.PARSeqCausalLMPreprocessor(
            image_converter=None, tokenizer=_models.PARSeqTokenizer()
        )
    return item(**given, **_TASK_ARGUMENTS.get(class_name, {}))


def _comma(variant):
    return variant and f",{variant}"


def _with_head(backbone):
    """A classifier on what a backbone is there to make."""
    output = backbone.output
    if isinstance(output, dict):
        for key in (
            "decoder_sequence_output",
            "sequence_output",
            "last_hidden_state",
            "latents",
            "pred_logits",
            "image_embeddings",
            *output,
        ):
            if key in output:
                break
        output = backbone(backbone.input)[key]
    else:
        output = backbone(backbone.input)
    if output.shape[-1] is None:
        # What each example of the batch has to do with each other one.
        output = keras.ops.mean(output, -1, keepdims=True)
    elif len(output.shape) > 2:
        output = keras.ops.mean(output, list(range(1, len(output.shape) - 1)))
    output = keras.layers.Dense(CLASSES, name="classes")(output)
    return keras.Model(backbone.input, output, name="with_head")


def data(name, model, num_examples, seed=0):
    """Random data for a model.

    Args:
        name: str, among `names()`.
        model: `keras.Model`, what `make` made.
        num_examples: int.
        seed: int.

    Returns:
        Tuple `(x, y, loss)`: arrays in the model's structure, and the name or
        the object of a loss.
    """
    rng = np.random.default_rng(seed)
    x = keras.tree.map_structure(
        lambda tensor: _values(tensor, num_examples, rng), model.input
    )
    outputs = model(x, training=False)
    if kind(name) in (*_CLASSIFYING, "Backbone"):
        y = rng.integers(outputs.shape[-1], size=outputs.shape[:-1])
        return x, y, keras.losses.SparseCategoricalCrossentropy(True)
    y = keras.tree.map_structure(
        lambda output: rng.normal(size=output.shape).astype("float32"), outputs
    )
    return x, y, "mean_squared_error"


def _values(tensor, num_examples, rng):
    """Random values for one input, of which its name tells the meaning."""
    name = tensor.name
    open_dimensions = iter(_OPEN_DIMENSIONS.get(name, []))
    shape = [num_examples] + [
        next(open_dimensions, LENGTH) if dimension is None else dimension
        for dimension in tensor.shape[1:]
    ]
    if "padding_mask" in name:
        # Sequences of all lengths, beginning with the longest.
        lengths = shape[1] - np.arange(num_examples) % (shape[1] // 2)
        values = np.arange(shape[1]) < lengths[:, None]
    elif "token_ids" in name:
        values = rng.integers(1, VOCABULARY, size=shape)
    elif name == "mask_positions":
        values = np.sort(rng.integers(LENGTH, size=shape))
    elif name == "position_ids":
        values = np.broadcast_to(np.arange(shape[1]), shape)
    elif name == "vision_indices":
        values = np.broadcast_to(np.arange(shape[1]), shape)
    elif name == "vision_mask":
        values = np.broadcast_to(np.arange(shape[1]) < 4, shape)
    elif name == "num_steps":
        values = np.full(shape, 2)
    elif "int" in tensor.dtype or name == "labels":
        values = rng.integers(2, size=shape)
    else:
        values = rng.random(shape)
    return values.astype(tensor.dtype)


def largest_split(model):
    """Into how many modules a model can be split at most.

    Args:
        model: `keras.Model`.

    Returns:
        int.
    """
    try:
        fr_keras.partition(model, 10**6)
    except ValueError as error:
        return int(re.search(r"at most (\d+)", str(error)).group(1))
    raise AssertionError(f"No model has {10**6} layers: {model.name}")
