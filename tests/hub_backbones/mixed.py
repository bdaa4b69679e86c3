"""Arguments of backbones for images or sound with text."""

import functools

import keras_hub
from keras_hub.src.models.vae.vae_backbone import VAEBackbone

from tests.hub_backbones.images import vit
from tests.hub_backbones.sizes import DEPTH, LENGTH, VOCABULARY, WIDTH
from tests.hub_backbones.text import encoder, gemma

_models = keras_hub.models


def _text_tower(**more):
    """Positional arguments of the text encoders of image-and-text models."""
    return dict(
        vocabulary_size=VOCABULARY,
        embedding_dim=WIDTH,
        hidden_dim=WIDTH,
        num_layers=DEPTH,
        num_heads=2,
        intermediate_dim=2 * WIDTH,
        max_sequence_length=LENGTH,
    ) | more


def _vision_tower(**more):
    return dict(
        patch_size=8,
        hidden_dim=WIDTH,
        num_layers=DEPTH,
        num_heads=2,
        intermediate_dim=2 * WIDTH,
        image_shape=(16, 16, 3),
    ) | more


def _two_towers(family, **more):
    vision = getattr(_models, f"{family}VisionEncoder")
    text = getattr(_models, f"{family}TextEncoder")
    return dict(
        vision_encoder=vision(**_vision_tower(name="vision_encoder")),
        text_encoder=text(**_text_tower(name="text_encoder")),
    ) | more


def _blip2(language_model):
    return dict(
        vision_encoder=_models.BLIP2VisionEncoder(
            image_size=16, patch_size=8, num_layers=4, num_heads=2,
            hidden_dim=WIDTH, intermediate_dim=2 * WIDTH, dropout_rate=0.0,
            use_patch_bias=True, use_class_token=True, use_mha_bias=True,
            use_mlp_bias=True, layer_norm_epsilon=1e-6, initializer_range=0.02,
        ),
        qformer=_models.BLIP2QFormer(
            num_query_tokens=2, num_layers=4, num_heads=2, hidden_dim=WIDTH,
            intermediate_dim=2 * WIDTH, vision_dim=WIDTH,
            cross_attention_frequency=1, dropout=0.0, layer_norm_epsilon=1e-6,
        ),
        language_model=language_model(
            vocabulary_size=VOCABULARY, num_layers=4, num_heads=2,
            hidden_dim=WIDTH, intermediate_dim=2 * WIDTH, num_query_tokens=2,
            qformer_hidden_dim=WIDTH, dropout=0.0,
        ),
    )


def _stable_diffusion_3():
    def clip(width, name):
        return _models.CLIPTextEncoder(
            **_text_tower(
                embedding_dim=width, hidden_dim=width, num_layers=4,
                intermediate_output_index=-2, name=name,
            )
        )

    return dict(
        mmdit_patch_size=2,
        mmdit_hidden_dim=16,
        mmdit_num_layers=DEPTH,
        mmdit_num_heads=2,
        mmdit_position_size=16,
        mmdit_qk_norm=None,
        mmdit_dual_attention_indices=None,
        vae=VAEBackbone(
            [32] * 4, [1] * 4, [32] * 4, [1] * 4, sampler_method="mode",
            name="vae",
        ),
        clip_l=clip(8, "clip_l"),
        clip_g=clip(8, "clip_g"),
        image_shape=(32, 32, 3),
    )


def _flux():
    return dict(
        input_channels=8,
        hidden_size=32,
        mlp_ratio=2.0,
        num_heads=2,
        depth=4,
        depth_single_blocks=4,
        axes_dim=[4, 6, 6],
        theta=10_000,
        use_bias=True,
        guidance_embed=True,
        image_shape=(6, 8),
        text_shape=(6, 8),
        image_ids_shape=(6, 3),
        text_ids_shape=(6, 3),
        y_shape=(8,),
    )


def _moonshine():
    return dict(
        vocabulary_size=VOCABULARY,
        filter_dim=WIDTH,
        encoder_num_layers=DEPTH,
        decoder_num_layers=DEPTH,
        hidden_dim=WIDTH,
        intermediate_dim=2 * WIDTH,
        encoder_num_heads=2,
        decoder_num_heads=2,
    )


ARGUMENTS = {
    "BLIP2Backbone": lambda: _blip2(
        functools.partial(
            _models.BLIP2CustomOPT, max_sequence_length=16,
            language_projection=None,
        )
    ),
    "BLIP2Backbone, T5": lambda: _blip2(_models.BLIP2FlanT5),
    "CLIPBackbone": lambda: _two_towers("CLIP", projection_dim=WIDTH),
    "CLIPTextEncoder": _text_tower,
    "CLIPVisionEncoder": _vision_tower,
    "FluxBackbone": _flux,
    "Gemma3Backbone, images": lambda: gemma(
        image_size=16,
        vision_encoder=_models.Gemma3VisionEncoder(
            image_size=16, patch_size=4, pool_size=2, num_layers=4,
            num_heads=2, hidden_dim=WIDTH, intermediate_dim=2 * WIDTH,
            output_dim=WIDTH,
        ),
    ),
    "MetaCLIP2Backbone": lambda: _two_towers("MetaCLIP2", projection_dim=WIDTH),
    "MetaCLIP2TextEncoder": _text_tower,
    "MetaCLIP2VisionEncoder": _vision_tower,
    "MoonshineBackbone": _moonshine,
    "PARSeqBackbone": lambda: dict(
        image_encoder=_models.ViTBackbone(
            **vit(use_class_token=False, name="image_encoder")
        ),
        vocabulary_size=VOCABULARY, max_label_length=LENGTH,
        decoder_hidden_dim=WIDTH, num_decoder_layers=2, num_decoder_heads=2,
        decoder_mlp_dim=2 * WIDTH, dropout_rate=0.0, attention_dropout=0.0,
    ),
    "PaliGemmaBackbone": lambda: gemma(
        image_size=16, vit_patch_size=8, vit_num_heads=2, vit_num_layers=4,
        vit_hidden_dim=WIDTH, vit_intermediate_dim=2 * WIDTH,
    ),
    "SigLIPBackbone": lambda: _two_towers("SigLIP"),
    "SigLIPTextEncoder": _text_tower,
    "SigLIPVisionEncoder": _vision_tower,
    "StableDiffusion3Backbone": _stable_diffusion_3,
    "WhisperBackbone": lambda: encoder(
        num_mels=8, max_encoder_sequence_length=LENGTH,
        max_decoder_sequence_length=LENGTH,
    ),
}
