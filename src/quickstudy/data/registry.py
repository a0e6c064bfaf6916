"""Floor 1: data sets by name."""

from __future__ import annotations

from quickstudy.registry import Registry

data_sets = Registry(
    "data set",
    "quickstudy.data",
    {
        "omniglot": "quickstudy.data.omniglot:Omniglot",
        "omniglot-runs": "quickstudy.data.lakeruns:OmniglotRuns",
        "sinusoid": "quickstudy.data.sinusoid:Sinusoid",
        "glyphs": "quickstudy.data.glyphs:Glyphs",
        "ink": "quickstudy.data.ink:Ink",
        "digits": "quickstudy.data.digits:Digits",
        "arabic-commands": "quickstudy.data.arabic:ArabicCommands",
        "spoken-digits": "quickstudy.data.spokendigits:SpokenDigits",
        "caltech101": "quickstudy.data.caltech:Caltech101",
        "images": "quickstudy.data.pictures:Images",
        "shards": "quickstudy.data.big.datasets:Shards",
        "parquet": "quickstudy.data.big.datasets:Parquet",
        "sounds": "quickstudy.data.sounds:Sounds",
        "clinc150": "quickstudy.data.intents:Clinc150",
        "banking77": "quickstudy.data.intents:Banking77",
        "fewrel": "quickstudy.data.fewrel:FewRel",
        "texts": "quickstudy.data.texts:Texts",
        "arrays": "quickstudy.data.arrays:Arrays",
        "tables": "quickstudy.data.tables:Tables",
        "table": "quickstudy.data.grouptable:GroupTable",
        "uci-heart": "quickstudy.data.heart:HeartDisease",
        "meta-dataset": "quickstudy.data.metadataset.dataset:MetaDataset",
        "mini-meta-dataset": "quickstudy.data.metadataset.mini:MiniMetaDataset",
        "mednist": "quickstudy.data.mednist:MedNIST",
        "ratings": "quickstudy.data.ratings:Ratings",
        "movietweetings": "quickstudy.data.movietweetings:MovieTweetings",
        "sp500": "quickstudy.data.shares:SP500",
        "bars": "quickstudy.data.shares:Bars",
        "point-navigation": "quickstudy.data.controltasks:PointNavigation",
        "half-cheetah-direction": "quickstudy.data.controltasks:HalfCheetahDirection",
        "half-cheetah-velocity": "quickstudy.data.controltasks:HalfCheetahVelocity",
        "ant-broken-joints": "quickstudy.data.controltasks:AntBrokenJoints",
        "metaworld-reach": "quickstudy.data.controltasks:Reach",
        "metaworld-push": "quickstudy.data.controltasks:Push",
        "environment": "quickstudy.data.controltasks:OwnEnvironment",
    },
)
