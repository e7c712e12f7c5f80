"""The zoo's Fast-SCNN for the nine classes of the procedural street scenes at 256 x 512.

Loads with `mmengine.Config.fromfile` wherever mmsegmentation is installed. Classes and palette repeat `scenes.py`,
because a config stands alone; a test compares the two.
"""

# The zoo inside the installed wheel. Not "mmseg::fastscnn/...": mmengine resolves that with pkg_resources, which
# setuptools no longer ships. mmengine evaluates this value by itself, so it has to be one expression.
_base_ = (
    __import__("importlib.util").util.find_spec("mmseg").submodule_search_locations[0]
    + "/.mim/configs/fastscnn/fast_scnn_8xb4-160k_cityscapes-512x1024.py"
)

classes = ("road", "sidewalk", "building", "pole", "traffic sign", "vegetation", "sky", "person", "car")
palette = [
    [128, 64, 128], [244, 35, 232], [70, 70, 70], [153, 153, 153], [220, 220, 0],
    [107, 142, 35], [70, 130, 180], [220, 20, 60], [0, 0, 142],
]  # fmt: skip
metainfo = {"classes": classes, "palette": palette}

crop_size = (256, 512)  # height, width
data_preprocessor = {"size": crop_size}

# A config cannot patch one entry of its base's list, so the auxiliary heads are written out.
auxiliary_head = {
    "type": "FCNHead",
    "channels": 32,
    "num_convs": 1,
    "num_classes": len(classes),
    "norm_cfg": {"type": "SyncBN", "requires_grad": True, "momentum": 0.01},
    "concat_input": False,
    "align_corners": False,
    "loss_decode": {"type": "CrossEntropyLoss", "use_sigmoid": False, "loss_weight": 0.4},
}
model = {
    "data_preprocessor": data_preprocessor,
    # Classes exclude each other: one softmax, where the zoo trains a sigmoid per class. Inference is the same.
    "decode_head": {
        "num_classes": len(classes),
        "loss_decode": {"type": "CrossEntropyLoss", "use_sigmoid": False, "loss_weight": 1.0},
    },
    "auxiliary_head": [
        {**auxiliary_head, "in_channels": 128, "in_index": -2},
        {**auxiliary_head, "in_channels": 64, "in_index": -3},
    ],
}

test_pipeline = [
    {"type": "LoadImageFromFile"},
    {"type": "Resize", "scale": (512, 256), "keep_ratio": True},
    {"type": "LoadAnnotations"},
    {"type": "PackSegInputs"},
]
val_dataloader = {"dataset": {"metainfo": metainfo, "pipeline": test_pipeline}}
test_dataloader = {"dataset": {"metainfo": metainfo, "pipeline": test_pipeline}}
