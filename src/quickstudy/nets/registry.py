"""Networks by name."""

from quickstudy.registry import Registry

nets = Registry(
    "network",
    "quickstudy.nets",
    {
        "conv4": "quickstudy.nets.conv4:Conv4",
        "hf-text": "quickstudy.nets.hftext:HFText",
        "mlp": "quickstudy.nets.mlp:MLP",
        "ratings": "quickstudy.nets.ratingnet:RatingNet",
        "resnet12": "quickstudy.nets.resnet12:ResNet12",
        "hf-vision": "quickstudy.nets.hfvision:HFVision",
        "timm": "quickstudy.nets.timmnet:Timm",
        "sound-conv4": "quickstudy.nets.soundconv:SoundConv4",
    },
)
