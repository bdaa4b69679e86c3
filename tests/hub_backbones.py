"""KerasHub's backbones, each small enough to be trained in seconds.

Nothing is downloaded: weights are random and widths tiny. Depth is not, since
the models are to be split into four modules.
"""

import functools

import keras_hub
from keras_hub.src.models.vae.vae_backbone import VAEBackbone

VOCABULARY = 40
LENGTH = 8
DEPTH = 8
WIDTH = 8

_models, _layers = keras_hub.models, keras_hub.layers


def make(name):
    """Makes a small backbone.

    Args:
        name: str, the class in `keras_hub.models`, and after a comma which
            variant of it.

    Returns:
        `keras_hub.models.Backbone`, without dropout.
    """
    return getattr(_models, name.split(",")[0])(**_ARGUMENTS[name]())


def names():
    """Names of the classes that `make` knows, a list."""
    return list(_ARGUMENTS)


def _encoder(**more):
    return dict(
        vocabulary_size=VOCABULARY,
        num_layers=DEPTH,
        num_heads=2,
        hidden_dim=WIDTH,
        intermediate_dim=2 * WIDTH,
        dropout=0.0,
    ) | more


def _positioned(**more):
    return _encoder(max_sequence_length=LENGTH, **more)


def _decoder(**more):
    return dict(
        vocabulary_size=VOCABULARY,
        num_layers=DEPTH,
        num_query_heads=4,
        num_key_value_heads=2,
        hidden_dim=WIDTH,
        intermediate_dim=2 * WIDTH,
        dropout=0.0,
    ) | more


def _gemma(**more):
    return _decoder(head_dim=4, **more)


def _experts(**more):
    return _decoder(num_experts=2, top_k=2, **more)


def _electra():
    arguments = _positioned(embedding_dim=WIDTH)
    arguments["vocab_size"] = arguments.pop("vocabulary_size")
    return arguments


def _falcon():
    arguments = _encoder(attention_dropout_rate=0.0, feedforward_dropout_rate=0)
    arguments["num_attention_heads"] = arguments.pop("num_heads")
    del arguments["dropout"]
    return arguments


def _f_net():
    arguments = _positioned()
    del arguments["num_heads"]
    return arguments


def _t5_gemma():
    types = ["sliding_attention", "full_attention"] * (DEPTH // 2)
    arguments = dict(
        vocabulary_size=VOCABULARY,
        dropout_rate=0.0,
        attention_dropout=0.0,
        sliding_window=4,
        cross_attention_hidden_size=WIDTH,
    )
    for side in ("encoder", "decoder"):
        arguments |= {
            f"{side}_hidden_dim": WIDTH,
            f"{side}_intermediate_dim": 2 * WIDTH,
            f"{side}_num_layers": DEPTH,
            f"{side}_num_attention_heads": 4,
            f"{side}_num_key_value_heads": 2,
            f"{side}_head_dim": 4,
            f"{side}_layer_types": types,
        }
    return arguments


def _qwen3_5(**more):
    return _decoder(
        head_dim=8,
        layer_types=["linear_attention", "full_attention"] * (DEPTH // 2),
        linear_num_key_heads=2,
        linear_num_value_heads=4,
        linear_key_head_dim=4,
        linear_value_head_dim=4,
        linear_conv_kernel_dim=2,
        **more,
    )


def _qwen3_5_moe():
    arguments = _qwen3_5(
        moe_intermediate_dim=WIDTH,
        shared_expert_intermediate_size=WIDTH,
        num_experts=2,
        top_k=2,
    )
    del arguments["intermediate_dim"]
    return arguments


def _gemma3n():
    return dict(
        text_vocab_size=VOCABULARY,
        text_hidden_size=WIDTH,
        num_hidden_layers=DEPTH,
        pad_token_id=0,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=4,
        intermediate_size=[2 * WIDTH] * DEPTH,
        hidden_activation="gelu_approximate",
        layer_types=["sliding_attention", "full_attention"] * (DEPTH // 2),
        sliding_window=4,
        rope_theta=10000.0,
        max_position_embeddings=LENGTH,
        vocab_size_per_layer_input=VOCABULARY,
        hidden_size_per_layer_input=4,
        altup_num_inputs=2,
        laurel_rank=2,
    )


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


def _resnet(**more):
    return dict(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[3],
        stackwise_num_filters=[64, 8, 16, 16],
        stackwise_num_blocks=[2, 2, 2, 2],
        stackwise_num_strides=[1, 2, 2, 2],
        block_type="basic_block",
        image_shape=(64, 64, 3),
    ) | more


def _hgnet(**more):
    return dict(
        stem_channels=[3, 8, 8],
        embedding_size=8,
        stackwise_stage_filters=[
            [8, 8, 8, 1, 1, 3],
            [8, 8, 16, 2, 1, 3],
            [16, 8, 16, 2, 1, 3],
            [16, 8, 16, 2, 1, 3],
        ],
        apply_downsample=[False, True, True, True],
        use_lightweight_conv_block=[False, False, True, True],
        depths=[1, 2, 2, 2],
        hidden_sizes=[8, 16, 16, 16],
        hidden_act="relu",
        use_learnable_affine_block=True,
        image_shape=(64, 64, 3),
    ) | more


def _d_fine():
    stages = ["stage3", "stage4"]
    return dict(
        backbone=_models.HGNetV2Backbone(**_hgnet(out_features=stages)),
        decoder_in_channels=[16, 16],
        encoder_hidden_dim=16,
        num_denoising=4,
        num_labels=4,
        hidden_dim=16,
        learn_initial_query=False,
        num_queries=6,
        anchor_image_size=(64, 64),
        feat_strides=[16, 32],
        num_feature_levels=2,
        encoder_in_channels=[16, 16],
        encode_proj_layers=[1],
        num_attention_heads=2,
        encoder_ffn_dim=16,
        num_encoder_layers=1,
        hidden_expansion=0.5,
        depth_multiplier=0.5,
        eval_idx=-1,
        num_decoder_layers=3,
        decoder_attention_heads=2,
        decoder_ffn_dim=16,
        decoder_n_points=[2, 2],
        lqe_hidden_dim=8,
        num_lqe_layers=2,
        out_features=stages,
        image_shape=(64, 64, 3),
        seed=0,
    )


def _mit(**more):
    return dict(
        layerwise_depths=[2, 2, 2, 2],
        num_layers=4,
        hidden_dims=[4, 8, 16, 32],
        layerwise_num_heads=[1, 2, 2, 2],
        layerwise_sr_ratios=[4, 2, 1, 1],
        max_drop_path_rate=0.0,
        layerwise_patch_sizes=[7, 3, 3, 3],
        layerwise_strides=[4, 2, 2, 1],
        image_shape=(32, 32, 3),
    ) | more


def _mobilenet():
    return dict(
        stackwise_expansion=[[16, 16], [24, 24, 24], [24, 24]],
        stackwise_num_blocks=[2, 3, 2],
        stackwise_num_filters=[[8, 8], [16, 16, 16], [16, 16]],
        stackwise_kernel_size=[[3, 3], [5, 5, 5], [3, 3]],
        stackwise_num_strides=[[2, 1], [2, 1, 1], [1, 1]],
        stackwise_se_ratio=[[None] * 2, [0.25] * 3, [0.25] * 2],
        stackwise_activation=[
            ["relu"] * 2, ["hard_swish"] * 3, ["hard_swish"] * 2,
        ],
        stackwise_padding=[[1, 1], [2, 2, 2], [1, 1]],
        output_num_filters=32,
        depthwise_filters=8,
        depthwise_stride=2,
        depthwise_residual=False,
        squeeze_and_excite=0.5,
        last_layer_filter=32,
        input_num_filters=8,
        image_shape=(32, 32, 3),
    )


def _mobilenet_v5():
    depths = (1, 3, 4)
    kinds = ("er", "uir", "uir")

    def each(*values):
        return [[value] * depth for value, depth in zip(values, depths)]

    return dict(
        stackwise_block_types=each(*kinds),
        stackwise_num_blocks=list(depths),
        stackwise_num_filters=each(8, 8, 16),
        stackwise_strides=[[2], [2, 1, 1], [2, 1, 1, 1]],
        stackwise_act_layers=each("relu", "relu", "relu"),
        stackwise_exp_ratios=each(2.0, 2.0, 2.0),
        stackwise_se_ratios=each(0.0, 0.0, 0.0),
        stackwise_dw_kernel_sizes=each(0, 3, 3),
        stackwise_dw_start_kernel_sizes=each(0, 0, 0),
        stackwise_dw_end_kernel_sizes=each(0, 0, 0),
        stackwise_exp_kernel_sizes=each(3, 0, 0),
        stackwise_pw_kernel_sizes=each(1, 0, 0),
        stackwise_num_heads=each(0, 0, 0),
        stackwise_key_dims=each(0, 0, 0),
        stackwise_value_dims=each(0, 0, 0),
        stackwise_kv_strides=each(0, 0, 0),
        stackwise_use_cpe=each(False, False, False),
        stem_size=8,
        num_features=16,
        use_msfa=False,
        image_shape=(32, 32, 3),
    )


def _efficient_net():
    return dict(
        stackwise_width_coefficients=[1.0] * 4,
        stackwise_depth_coefficients=[1.0] * 4,
        stackwise_kernel_sizes=[3, 3, 3, 3],
        stackwise_num_repeats=[2, 2, 2, 2],
        stackwise_input_filters=[8, 8, 8, 16],
        stackwise_output_filters=[8, 8, 16, 16],
        stackwise_expansion_ratios=[1, 2, 2, 2],
        stackwise_squeeze_and_excite_ratios=[0.0, 0.0, 0.25, 0.25],
        stackwise_strides=[1, 2, 2, 1],
        stackwise_block_types=["fused", "fused", "unfused", "unfused"],
        stackwise_force_input_filters=[0] * 4,
        stackwise_nores_option=[False] * 4,
        dropout=0.0,
        num_features=16,
        input_shape=(32, 32, 3),
    )


def _vit(**more):
    return dict(
        image_shape=(16, 16, 3),
        patch_size=(8, 8),
        num_layers=DEPTH,
        num_heads=2,
        hidden_dim=WIDTH,
        mlp_dim=2 * WIDTH,
    ) | more


def _dino(**more):
    return dict(
        patch_size=8,
        num_layers=DEPTH,
        hidden_dim=WIDTH,
        num_heads=2,
        intermediate_dim=2 * WIDTH,
        image_shape=(16, 16, 3),
    ) | more


def _depth_anything():
    return dict(
        image_encoder=_models.DINOV2Backbone(
            **_dino(
                image_shape=(64, 64, 3), apply_layernorm=True,
                position_embedding_shape=(64, 64, 3), name="image_encoder",
            )
        ),
        reassemble_factors=[4, 2, 1, 0.5],
        neck_hidden_dims=[8, 8, 16, 16],
        fusion_hidden_dim=8,
        head_hidden_dim=8,
        head_in_index=-1,
        feature_keys=["stage2", "stage4", "stage6", "stage8"],
    )


def _vit_det(**more):
    return dict(
        hidden_size=WIDTH,
        num_layers=DEPTH,
        intermediate_dim=2 * WIDTH,
        num_heads=2,
        global_attention_layer_indices=[1, 3, 5, 7],
        patch_size=8,
        num_output_channels=WIDTH,
        window_size=2,
        image_shape=(32, 32, 3),
    ) | more


def _sam():
    return dict(
        image_encoder=_models.ViTDetBackbone(
            **_vit_det(patch_size=16, image_shape=(64, 64, 3))
        ),
        prompt_encoder=_layers.SAMPromptEncoder(
            hidden_size=WIDTH, image_embedding_size=(4, 4),
            input_image_size=(64, 64), mask_in_channels=16,
        ),
        mask_decoder=_layers.SAMMaskDecoder(
            num_layers=2, hidden_size=WIDTH, intermediate_dim=2 * WIDTH,
            num_heads=2, embedding_dim=WIDTH, num_multimask_outputs=3,
            iou_head_depth=3, iou_head_hidden_dim=WIDTH,
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


# By class, what makes its arguments; nested models are made anew each time.
_ARGUMENTS = {
    "AlbertBackbone": lambda: _positioned(
        embedding_dim=WIDTH, num_groups=4, num_inner_repetitions=1
    ),
    "BASNetBackbone": lambda: dict(
        image_encoder=_models.ResNetBackbone(
            **_resnet(
                image_shape=(None, None, 3), stackwise_num_filters=[64] * 4
            )
        ),
        num_classes=1,
        projection_filters=64,
        image_shape=(32, 32, 3),
    ),
    "BLIP2Backbone": lambda: _blip2(
        functools.partial(
            _models.BLIP2CustomOPT, max_sequence_length=16,
            language_projection=None,
        )
    ),
    "BLIP2Backbone, T5": lambda: _blip2(_models.BLIP2FlanT5),
    "BartBackbone": _positioned,
    "BertBackbone": _positioned,
    "BloomBackbone": _encoder,
    "CLIPBackbone": lambda: _two_towers("CLIP", projection_dim=WIDTH),
    "CLIPTextEncoder": _text_tower,
    "CLIPVisionEncoder": _vision_tower,
    "CSPNetBackbone": lambda: dict(
        stem_filters=8, stem_kernel_size=3, stem_strides=1,
        stackwise_strides=2, stackwise_depth=[1, 2, 4],
        stackwise_num_filters=[8, 8, 16], bottle_ratio=(0.5, 1.0),
        block_ratio=(1.0, 0.5), expand_ratio=(2.0, 1.0), down_growth=True,
        block_type="dark_block", stage_type="csp", stem_padding="same",
        image_shape=(32, 32, 3),
    ),
    "DFineBackbone": _d_fine,
    "DINOV2Backbone": lambda: _dino(position_embedding_shape=(16, 16, 3)),
    "DINOV3Backbone": _dino,
    "DebertaV3Backbone": lambda: _positioned(bucket_size=8),
    "DeepLabV3Backbone": lambda: dict(
        image_encoder=_models.ResNetBackbone(**_resnet()),
        spatial_pyramid_pooling_key="P4",
        low_level_feature_key="P2",
        projection_filters=8,
        dilation_rates=[1, 2, 3],
        upsampling_size=4,
        image_shape=(64, 64, 3),
    ),
    "DeiTBackbone": lambda: dict(
        image_shape=(16, 16, 3), patch_size=8, num_layers=DEPTH, num_heads=2,
        hidden_dim=WIDTH, intermediate_dim=2 * WIDTH,
    ),
    "DenseNetBackbone": lambda: dict(
        stackwise_num_repeats=[2, 2, 2, 2], compression_ratio=0.5,
        growth_rate=4, image_shape=(64, 64, 3),
    ),
    "DepthAnythingBackbone": _depth_anything,
    "DistilBertBackbone": _positioned,
    "ESMBackbone": lambda: _positioned(use_pre_layer_norm=True),
    "EdRecBackbone": lambda: dict(
        vocab_size=VOCABULARY, num_layers_enc=DEPTH, num_layers_dec=DEPTH,
        hidden_dim=WIDTH, intermediate_dim=2 * WIDTH, num_heads=2,
    ),
    "EfficientNetBackbone": _efficient_net,
    "ElectraBackbone": _electra,
    "FNetBackbone": _f_net,
    "FalconBackbone": _falcon,
    "FluxBackbone": _flux,
    "GPT2Backbone": _positioned,
    "GPTNeoXBackbone": lambda: _positioned(rotary_percentage=0.5),
    "Gemma3Backbone": lambda: _gemma(
        image_size=None, use_query_key_norm=True, use_post_ffw_norm=True,
        use_post_attention_norm=True, use_sliding_window_attention=True,
        sliding_window_size=4,
    ),
    "Gemma3Backbone, images": lambda: _gemma(
        image_size=16,
        vision_encoder=_models.Gemma3VisionEncoder(
            image_size=16, patch_size=4, pool_size=2, num_layers=4,
            num_heads=2, hidden_dim=WIDTH, intermediate_dim=2 * WIDTH,
            output_dim=WIDTH,
        ),
    ),
    "Gemma3nBackbone": _gemma3n,
    "Gemma4Backbone": lambda: _gemma(image_size=None, sliding_window_size=4),
    "GemmaBackbone": _gemma,
    "GptOssBackbone": lambda: _experts(sliding_window=4),
    "HGNetV2Backbone": _hgnet,
    "Llama3Backbone": _decoder,
    "LlamaBackbone": _decoder,
    "LlamaBackbone, tied": lambda: _decoder(tie_word_embeddings=True),
    "MetaCLIP2Backbone": lambda: _two_towers("MetaCLIP2", projection_dim=WIDTH),
    "MetaCLIP2TextEncoder": _text_tower,
    "MetaCLIP2VisionEncoder": _vision_tower,
    "MiTBackbone": _mit,
    "MistralBackbone": lambda: _decoder(sliding_window=4),
    "MixtralBackbone": lambda: _experts(sliding_window=4),
    "MobileNetBackbone": _mobilenet,
    "MobileNetV5Backbone": _mobilenet_v5,
    "MoonshineBackbone": _moonshine,
    "OPTBackbone": _positioned,
    "PARSeqBackbone": lambda: dict(
        image_encoder=_models.ViTBackbone(
            **_vit(use_class_token=False, name="image_encoder")
        ),
        vocabulary_size=VOCABULARY, max_label_length=LENGTH,
        decoder_hidden_dim=WIDTH, num_decoder_layers=2, num_decoder_heads=2,
        decoder_mlp_dim=2 * WIDTH, dropout_rate=0.0, attention_dropout=0.0,
    ),
    "PaliGemmaBackbone": lambda: _gemma(
        image_size=16, vit_patch_size=8, vit_num_heads=2, vit_num_layers=4,
        vit_hidden_dim=WIDTH, vit_intermediate_dim=2 * WIDTH,
    ),
    "Phi3Backbone": _decoder,
    "Qwen3Backbone": lambda: _decoder(head_dim=4),
    "Qwen3MoeBackbone": lambda: _experts(
        head_dim=4, moe_intermediate_dim=WIDTH
    ),
    "Qwen3_5Backbone": _qwen3_5,
    "Qwen3_5MoeBackbone": _qwen3_5_moe,
    "QwenBackbone": _decoder,
    "QwenBackbone, untied": lambda: _decoder(tie_word_embeddings=False),
    "QwenMoeBackbone": lambda: _experts(
        moe_intermediate_dim=WIDTH, shared_expert_intermediate_dim=WIDTH
    ),
    "RWKV7Backbone": lambda: dict(
        hidden_size=WIDTH, head_size=4, num_layers=DEPTH,
        vocabulary_size=VOCABULARY, intermediate_dim=2 * WIDTH, gate_lora=4,
        mv_lora=4, aaa_lora=4, decay_lora=4,
    ),
    "ResNetBackbone": _resnet,
    "RetinaNetBackbone": lambda: dict(
        image_encoder=_models.ResNetBackbone(**_resnet()),
        min_level=3, max_level=5, use_p5=True, image_shape=(64, 64, 3),
    ),
    "RobertaBackbone": _positioned,
    "RoformerV2Backbone": lambda: _encoder(head_size=4),
    "SAMBackbone": _sam,
    "SegFormerBackbone": lambda: dict(
        image_encoder=_models.MiTBackbone(**_mit()), projection_filters=8,
    ),
    "SigLIPBackbone": lambda: _two_towers("SigLIP"),
    "SigLIPTextEncoder": _text_tower,
    "SigLIPVisionEncoder": _vision_tower,
    "SmolLM3Backbone": lambda: dict(
        vocabulary_size=VOCABULARY, hidden_dim=WIDTH,
        intermediate_dim=2 * WIDTH, num_layers=DEPTH, num_attention_heads=2,
        num_key_value_heads=1, attention_bias=False, attention_dropout=0.0,
        rope_layer_enabled_list=[True, False] * (DEPTH // 2),
        layer_types=["attention"] * DEPTH, mlp_bias=False,
        layer_norm_epsilon=1e-5, max_position_embeddings=LENGTH,
        rope_theta=10000.0, partial_rotary_factor=1.0,
    ),
    "StableDiffusion3Backbone": _stable_diffusion_3,
    "SwinTransformerBackbone": lambda: dict(
        image_shape=(32, 32, 3), embed_dim=WIDTH, depths=(2, 2, 4),
        num_heads=(1, 2, 2), window_size=2, patch_size=4, drop_path=0.0,
    ),
    "T5Backbone": _encoder,
    "T5Backbone, untied": lambda: _encoder(tie_embedding_weights=False),
    "T5Gemma2Backbone": _t5_gemma,
    "T5GemmaBackbone": _t5_gemma,
    "VGGBackbone": lambda: dict(
        stackwise_num_repeats=[2, 3, 3], stackwise_num_filters=[8, 8, 16],
        image_shape=(56, 56, 3),
    ),
    "ViTBackbone": _vit,
    "ViTDetBackbone": _vit_det,
    "VideoPrismBackbone": lambda: dict(
        num_frames=2, patch_size=8, hidden_dim=WIDTH,
        intermediate_dim=2 * WIDTH, num_heads=2, num_spatial_layers=4,
        num_temporal_layers=2, num_auxiliary_layers=2,
        image_shape=(16, 16, 3),
    ),
    "WhisperBackbone": lambda: _encoder(
        num_mels=8, max_encoder_sequence_length=LENGTH,
        max_decoder_sequence_length=LENGTH,
    ),
    "XLMRobertaBackbone": _positioned,
    "XLNetBackbone": _encoder,
    "XceptionBackbone": lambda: dict(
        stackwise_conv_filters=[
            [filters] * 2 for filters in (8, 12, 12, 16, 16)
        ],
        stackwise_pooling=[False, True, False, True, False],
        image_shape=(64, 64, 3),
    ),
}
