"""Arguments of backbones for images."""

import keras_hub

from tests.hub_backbones.sizes import DEPTH, WIDTH

_models, _layers = keras_hub.models, keras_hub.layers


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


def vit(**more):
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


ARGUMENTS = {
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
    "EfficientNetBackbone": _efficient_net,
    "HGNetV2Backbone": _hgnet,
    "MiTBackbone": _mit,
    "MobileNetBackbone": _mobilenet,
    "MobileNetV5Backbone": _mobilenet_v5,
    "ResNetBackbone": _resnet,
    "RetinaNetBackbone": lambda: dict(
        image_encoder=_models.ResNetBackbone(**_resnet()),
        min_level=3, max_level=5, use_p5=True, image_shape=(64, 64, 3),
    ),
    "SAMBackbone": _sam,
    "SegFormerBackbone": lambda: dict(
        image_encoder=_models.MiTBackbone(**_mit()), projection_filters=8,
    ),
    "SwinTransformerBackbone": lambda: dict(
        image_shape=(32, 32, 3), embed_dim=WIDTH, depths=(2, 2, 4),
        num_heads=(1, 2, 2), window_size=2, patch_size=4, drop_path=0.0,
    ),
    "VGGBackbone": lambda: dict(
        stackwise_num_repeats=[2, 3, 3], stackwise_num_filters=[8, 8, 16],
        image_shape=(56, 56, 3),
    ),
    "ViTBackbone": vit,
    "ViTDetBackbone": _vit_det,
    "VideoPrismBackbone": lambda: dict(
        num_frames=2, patch_size=8, hidden_dim=WIDTH,
        intermediate_dim=2 * WIDTH, num_heads=2, num_spatial_layers=4,
        num_temporal_layers=2, num_auxiliary_layers=2,
        image_shape=(16, 16, 3),
    ),
    "XceptionBackbone": lambda: dict(
        stackwise_conv_filters=[
            [filters] * 2 for filters in (8, 12, 12, 16, 16)
        ],
        stackwise_pooling=[False, True, False, True, False],
        image_shape=(64, 64, 3),
    ),
}
