"""What each error code means, its typical causes and the way out: the source of docs/errors.md and `segc explain`."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from pathlib import Path

from segc.errors.codes import Code


@dataclass(frozen=True)
class Explanation:
    """title: a heading. meaning: what happened and why. way_out: what to do."""

    title: str
    meaning: str
    way_out: str


GROUPS = {
    # letter of the code: exit code, title
    "U": (2, "The request is wrong"),
    "S": (3, "The source, the checkpoint or the shape cannot be used"),
    "T": (4, "The target refuses nodes of the graph"),
    "P": (5, "The engine differs from the reference"),
    "B": (6, "The bundle cannot be used"),
    "D": (7, "A runtime or package is not installed"),
    "F": (8, "A file or folder cannot be read or written"),
    "C": (9, "Export, a pass, emission or a runtime failed"),
}

EXPLANATIONS = {
    Code.USAGE: Explanation(
        "The request is wrong",
        "A fault of a request that no other code describes, mostly from a target or front end of another package.",
        "Follow the `so` line of the message.",
    ),
    Code.INVALID_SHAPE: Explanation(
        "Not a shape, or not a range of shapes",
        "A shape must be HEIGHTxWIDTH in pixels, both at least 1 and at most 32768; a range is two shapes, the "
        "smaller first.",
        "Correct the text, for example `--shape 512x1024` or `--shape-range 256x256:1024x2048`.",
    ),
    Code.UNKNOWN_CHOICE: Explanation(
        "There is no such choice",
        "An option has a fixed list of values and got another one: an output, an input, a mode, a precision, a "
        "way to decode.",
        "Use one of the values that the message lists.",
    ),
    Code.UNKNOWN_OPTION: Explanation(
        "There is no such option",
        "The function or the target has no option of that name, or `--set` got something other than NAME=VALUE.",
        "`segc targets` lists the options of each target.",
    ),
    Code.INVALID_NUMBER: Explanation(
        "Not a valid number",
        "A count, share or factor lies outside its range: threads, runs, opacity, batch, nodes of a segment.",
        "Use a value in the range that the message or `--help` names.",
    ),
    Code.CONFLICTING_OPTIONS: Explanation(
        "These options do not go together",
        "Two options exclude each other, or one needs another that is missing.",
        "Omit one of them, or add the option that the message names.",
    ),
    Code.UNSUPPORTED_BY_TARGET: Explanation(
        "The target does not support the option",
        "The option is valid, but this target cannot do it: uint8 images, a precision, a device.",
        "Omit the option or choose another target; `segc targets` shows what each supports.",
    ),
    Code.UNSUPPORTED_BY_MODEL: Explanation(
        "The model does not support the option",
        "The option is valid, but it does not fit this model: a mask of an output that is no class map, images "
        "for an input without three channels, a window without a crop size, a size that the model does not take.",
        "Omit the option, or change it as the message says.",
    ),
    Code.UNKNOWN_NAME: Explanation(
        "There is no target, pass or family of that name",
        "The name is misspelled, or the package that offers the target is not installed.",
        "Use one of the suggested names; `segc targets` and `segc passes` list all.",
    ),
    Code.PASS_OPTIONS: Explanation(
        "The options of a pass are wrong",
        "A pass has no option of that name, or refuses the value.",
        "`segc passes` lists the options of each pass with their types.",
    ),
    Code.PASS_ORDER: Explanation(
        "The passes cannot run in this order",
        "A pass requires an invariant that no earlier pass ensures, or that an earlier pass has invalidated.",
        "Move the pass, or add the one that the message names before it.",
    ),
    Code.PASS_REFUSES: Explanation(
        "A pass refuses the graph",
        "The options of a pass do not fit this graph, for example a size that disagrees with a fixed one.",
        "Change the option, or leave the pass out.",
    ),
    Code.NOTHING_TO_BUILD: Explanation(
        "The bundle has nothing left to build",
        "`segc build` finishes a bundle whose engine was deferred; this bundle has its engine.",
        "Run the bundle; compile again to change it.",
    ),
    Code.ENGINE_OF_OTHER_PROCESS: Explanation(
        "The engine was loaded in another process",
        "Engines do not survive a fork: their threads and handles stay in the parent.",
        "Call `segc.load` in each process.",
    ),
    Code.INPUT_TYPE: Explanation(
        "The input has the wrong type",
        "An engine takes a NumPy array of float32 (or uint8 if it was compiled with `--input uint8`); an image is "
        "uint8.",
        "Convert the array with `astype`.",
    ),
    Code.OUTPUT_REPLACES_INPUT: Explanation(
        "The output cannot be written there",
        "The output would replace the image it is made from, or its name does not say a format.",
        "Choose another file or folder for the output.",
    ),
    Code.BROKEN_TARGET_PACKAGE: Explanation(
        "A package offers a target that cannot be used",
        "An entry point of another package is not a Target, or two packages offer one name.",
        "Remove or repair the package that the message names.",
    ),
    Code.CLASSES_DIFFER: Explanation(
        "The number of classes differs",
        "Bundles that are evaluated together, and the dataset that they are evaluated on, must have the same number of "
        "classes, or a label would mean two things.",
        "Evaluate the bundles one by one, each on its own labels; `--label-map` renumbers labels.",
    ),
    Code.NEEDS_PYTHON: Explanation(
        "The bundle needs Python code that it does not hold",
        "The test pipeline of its source has a transform of one's own. The bundle names its class; running it means "
        "importing a module and running what it does, so it happens on request only.",
        "Give `--python`, or `python=True` to `segc.load`, if you trust the bundle and the module it names. The module "
        "is looked for where Python looks and in the working folder.",
    ),
    Code.CALIBRATION: Explanation(
        "There are too few images to calibrate with",
        "An int8 engine gets the ranges of its numbers from images, and is judged by others of the same folder; there "
        "must be two at least, and some dozens make a good engine.",
        "Give a folder with images like those that the model will see.",
    ),
    Code.PACKAGE: Explanation(
        "The bundle cannot be packaged for this",
        "What runs the package cannot do all that the bundle needs in the way segc does it: the engine is of another "
        "runtime, or the images are decoded or changed in a way that, for example, browsers do not offer.",
        "Follow the `so` line of the message, or use another kind of package.",
    ),
    Code.WINDOWS: Explanation(
        "The picture cannot be segmented in windows like these",
        "Windows overlap and their logits are averaged, so the engine has to give logits and to take windows of this "
        "size. Every window sees a part of the picture: steps of preprocessing that look at the whole picture, such as "
        "adaptive equalization, have no meaning there.",
        "Follow the `so` line of the message: another `--tile` or `--stride`, or a bundle compiled with "
        "`--output logits`.",
    ),
    Code.SOURCE: Explanation(
        "The source cannot be used",
        "A fault of a source that no other code describes, mostly from a target or front end of another package.",
        "Follow the `so` line of the message.",
    ),
    Code.UNKNOWN_SOURCE: Explanation(
        "There is no such model",
        "The source is neither a config of the zoo, nor a `.py` config or model file, nor an `.onnx` file.",
        "Check the path or the name; the message suggests similar names.",
    ),
    Code.CONFIG: Explanation(
        "The config cannot be used",
        "The config cannot be read, defines no model, defines no segmentor, or asks for a type that mmseg does "
        "not know.",
        "Repair the config, or install the package that registers its modules.",
    ),
    Code.CONFIG_MODEL: Explanation(
        "The model of the config cannot be built",
        "mmseg raised an error while it built the model: a wrong argument, or a module that does not exist in "
        "this version.",
        "The `because` line repeats mmseg's own message; repair the config accordingly.",
    ),
    Code.PYTHON_FILE: Explanation(
        "The Python file cannot be run",
        "The file is not valid Python, cannot be read, or raised an error when it was imported or when "
        "build_model() ran.",
        "Run the file with `python` to see its own error, and repair it.",
    ),
    Code.PYTHON_CONTRACT: Explanation(
        "The Python file lacks what segc reads",
        "A model file defines `build_model()` or `model`, and may define a dict `meta`; one of them is missing or "
        "has unknown keys.",
        "See the examples in `examples/`, and the keys that the message lists.",
    ),
    Code.NOT_ONNX: Explanation(
        "Not a valid ONNX model",
        "The file is empty, cut off, not ONNX, or violates the ONNX specification.",
        "Export or download the file again.",
    ),
    Code.ONNX_EXTERNAL_DATA: Explanation(
        "Weights of the ONNX file are missing",
        "The model refers to a data file that is missing, cannot be read or lies outside its folder.",
        "Put the data file beside the model under its original name.",
    ),
    Code.ONNX_OPSET: Explanation(
        "The opset is not supported",
        "The model uses an opset that is too old, too new or cannot be converted, or ops that ONNX does not define.",
        "Re-export the model with an opset in the range that the message names.",
    ),
    Code.NOT_SEGMENTATION: Explanation(
        "Not a segmentation model",
        "segc needs one float32 input (N, C, H, W) and one output of logits (N, classes, H, W).",
        "Export the part of the model that returns logits, without post-processing.",
    ),
    Code.ONNX_WITH_CHECKPOINT: Explanation(
        "An ONNX file takes no checkpoint",
        "An ONNX file holds its own weights.",
        "Omit the checkpoint.",
    ),
    Code.SOURCE_CHANGED: Explanation(
        "The source is not the one that was compiled",
        "The config, file or checkpoint differs from the one in the manifest, so its outputs are no reference for "
        "the bundle.",
        "Give the original source and checkpoint, or compile again.",
    ),
    Code.NATIVE_FAILURE: Explanation(
        "A library fails on the file",
        "ONNX's shape inference or ONNX Runtime crashed, took longer than --time-limit or more memory than "
        "--memory-limit. They look at files in a process of their own, which was ended; segc's goes on.",
        "A damaged or crafted file is no model to compile. For a large one that you trust, raise the limit that the "
        "message names.",
    ),
    Code.TOO_LARGE: Explanation(
        "A tensor needs more memory than the limit",
        "At this size a tensor of the model takes more bytes than --memory-limit allows, by default three quarters "
        "of the machine's memory. Sizes are judged before memory is asked for.",
        "Compile for a smaller --shape, or raise --memory-limit.",
    ),
    Code.TEST_PIPELINE: Explanation(
        "A step of the test pipeline cannot be repeated",
        "`segment` repeats what a config does to images at test time. This config has a step that segc does not know: "
        "a transform or data preprocessor of one's own, a random one, or one that makes several pictures of each.",
        "Do the step to the images before `segment` and leave it out with --skip-transform NAME, which is noted in the "
        "report; or use one of mmcv's and mmseg's own transforms.",
    ),
    Code.CLASSES: Explanation(
        "Class names or colours that do not fit",
        "The names in --classes or in `meta`, or the colours, are not as many as the model has classes, or a file with "
        "them cannot be understood.",
        "Give one name and one colour for each class. A head with one channel has the background and a foreground.",
    ),
    Code.DATASET: Explanation(
        "The dataset of a config cannot be opened",
        "A config for `--dataset` has a test_dataloader, or a val_dataloader, whose dataset mmseg can build: its type "
        "is registered, its folders and lists of files are there, and its classes are known.",
        "Correct the config. Paths in it are relative to the current folder, as in mmseg.",
    ),
    Code.DEQUANTIZE: Explanation(
        "A quantized file cannot be computed in float32",
        "--dequantize replaces quantized tensors by the real values that they stand for. Some nodes compute with the "
        "integers themselves, or with scales that are only known at run time.",
        "Omit `--dequantize` and compile for ONNX Runtime, or export the model before it was quantized.",
    ),
    Code.NOT_LOCAL: Explanation(
        "A model, or a part of it, is not on this machine",
        "segc downloads nothing. The model that `hf:` names is neither a folder nor in Hugging Face's local cache, or "
        "smp's preprocessing of an encoder is not there.",
        "Get it where there is a connection, for example `hf download NAME`, or copy the folder and give its path.",
    ),
    Code.REMOTE_CODE: Explanation(
        "The model needs Python code of its own folder",
        "The folder's config.json names classes in Python files beside it (`auto_map`), and transformers has none for "
        "the model. Opening it would run that code.",
        "Read the code; if you trust it, `--trust-remote-code`.",
    ),
    Code.TORCHSCRIPT: Explanation(
        "TorchScript files are not read",
        "PyTorch's jit.save wrote the file. It holds a program in TorchScript, which torch.export does not trace.",
        "Give the Python code and its weights, or export that model: torch.export.save gives a .pt2 file, "
        "torch.onnx.export an .onnx file.",
    ),
    Code.MODEL_INPUTS: Explanation(
        "The model needs more inputs than the image",
        "An engine takes an image. The model asks for other inputs too, such as a prompt or a mask, and nothing says "
        "what they are.",
        "In a Python file, name constant ones in `meta['inputs']`, or bind them in a module of your own.",
    ),
    Code.OWN_PREPROCESSING: Explanation(
        "The image processor does what segc cannot",
        "The processor of a transformers model prepares images by steps that `segment` has no equal of, or there is no "
        "processor beside the model.",
        "Give --mean, --std and the like, for images of the engine's size, or change preprocessor_config.json.",
    ),
    Code.RANDOM_NUMBERS: Explanation(
        "The model draws random numbers",
        "Each run of the model gives other results, so an engine cannot be compared with it. Or, with --freeze-random, "
        "the numbers cannot be drawn once, because how many they are depends on the size of the image, or because an "
        "op draws them of which segc has no such form.",
        "Compile with --freeze-random SEED: the numbers are drawn once, the same for every image, for the engine and "
        "for PyTorch. Where that is refused, give a fixed --shape, or draw them in the model's constructor.",
    ),
    Code.CHECKPOINT: Explanation(
        "The checkpoint cannot be used",
        "A fault of a checkpoint that no other code describes, mostly from a target or front end of another package.",
        "Follow the `so` line of the message.",
    ),
    Code.CHECKPOINT_UNREADABLE: Explanation(
        "The checkpoint cannot be read",
        "The file is empty, cut off, not a checkpoint, or holds no weights.",
        "Download the checkpoint again, or give another one.",
    ),
    Code.CHECKPOINT_MISMATCH: Explanation(
        "The checkpoint does not fit the model",
        "Names or shapes of the weights differ from those of the model.",
        "Give the config that the checkpoint was trained with, or `--allow-mismatch` to load what fits; the "
        "message lists what differs.",
    ),
    Code.CHECKPOINT_UNSAFE: Explanation(
        "The checkpoint holds more than weights",
        "Loading it would run code that is stored in the file, which segc refuses.",
        "Nothing of it was executed. Ask its author for a plain state_dict, or convert it where you trust it.",
    ),
    Code.SHAPE: Explanation(
        "The shape cannot be used",
        "A fault of a shape that no other code describes, mostly from a target or front end of another package.",
        "Follow the `so` line of the message.",
    ),
    Code.MODEL_SHAPE: Explanation(
        "The model does not run at this shape",
        "PyTorch itself raises an error at this height and width, often because a side must be a multiple of a stride.",
        "Choose another `--shape`; the message repeats PyTorch's own words.",
    ),
    Code.FIXED_SHAPE: Explanation(
        "The graph is fixed at another shape",
        "A size of the input is a constant in the graph and disagrees with the requested one.",
        "Use the fixed size, or re-export the model with dynamic sizes.",
    ),
    Code.ENGINE_SHAPE: Explanation(
        "The engine does not take this size",
        "The bundle was compiled for other sizes.",
        "Resize the image, or compile with `--dynamic` or a wider `--shape-range`.",
    ),
    Code.INPUT_SHAPE: Explanation(
        "The array has the wrong shape",
        "An engine takes (N, C, H, W) with at least one image, an image is (H, W, 3).",
        "Reshape the array as the message says.",
    ),
    Code.LEGALITY: Explanation(
        "The target refuses the graph",
        "A refusal that no other code describes, mostly from a target or front end of another package.",
        "Follow the `so` line of the message.",
    ),
    Code.UNSUPPORTED_NODES: Explanation(
        "The target does not support nodes of the model",
        "After all legalizations the graph holds ops, types or attributes that the runtime does not have, and a "
        "split is forbidden or not worth it.",
        "Change the lines of the model that the message names, choose another target, or allow a hybrid bundle.",
    ),
    Code.REFUSED_BY_BUILDER: Explanation(
        "The target's own builder refuses nodes",
        "The nodes are in the target's table, but its converter or builder refused them for this model.",
        "Choose another target, or allow a hybrid bundle; please report the model.",
    ),
    Code.PARITY: Explanation(
        "The engine differs from the reference",
        "A difference that no other code describes, mostly from a target or front end of another package.",
        "Follow the `so` line of the message.",
    ),
    Code.PARITY_GATE: Explanation(
        "The engine misses the parity limits",
        "What the engine computes differs from PyTorch by more than the limits, so the bundle is not published. "
        "With fp16 this is rounding; with fp32 it is a fault of the runtime or of segc. The error names the runtime if "
        "ONNX Runtime is right on the same graph.",
        "Compile in fp32, use weights that are trained, or relax the limits if the difference is acceptable; the "
        "report beside the destination has all figures.",
    ),
    Code.VERIFY_FAILED: Explanation(
        "The bundle does not compute what its source computes",
        "`segc verify` compared the engine with its source, and they differ by more than the limits.",
        "Compile again on this machine; if it fails again, the runtime's version differs from the one in the manifest.",
    ),
    Code.OUTPUT_SHAPE: Explanation(
        "The engine returns another shape than the reference",
        "Output and reference cannot be compared.",
        "There is none in the request: please report the model.",
    ),
    Code.FILES_DIFFER: Explanation(
        "`segment` differs from the source's own way from a file to a mask",
        "The network agrees, but on a made-up picture the source's own preprocessing and prediction give another input "
        "or another mask than `segment` would. Something in the source is not reproduced.",
        "Compile with --allow-file-difference to publish the bundle with a note, if you know the reason; else please "
        "report the model.",
    ),
    Code.BUNDLE: Explanation(
        "The bundle cannot be used",
        "A fault of a bundle that no other code describes, mostly from a target or front end of another package.",
        "Follow the `so` line of the message.",
    ),
    Code.NO_BUNDLE: Explanation(
        "There is no bundle",
        "The path does not exist, or the folder has no manifest `segc.json`.",
        "Give the folder that `segc compile -o` wrote.",
    ),
    Code.BUNDLE_FORMAT: Explanation(
        "The bundle has another format",
        "Another version of segc wrote the bundle.",
        "Compile again with this version, or install the version that wrote it.",
    ),
    Code.MANIFEST_DAMAGED: Explanation(
        "The manifest is damaged",
        "`segc.json` is not valid JSON, lacks a key or has a value of the wrong type.",
        "Restore the bundle, or compile again.",
    ),
    Code.BUNDLE_FILE: Explanation(
        "A file of the bundle is missing or damaged",
        "A file is missing, lies outside of the bundle, or its checksum differs from the manifest.",
        "Copy the bundle again as a whole, or compile again.",
    ),
    Code.MANIFEST_VALUE: Explanation(
        "The manifest cannot be written",
        "A value is not finite or not text, so JSON cannot hold it.",
        "Correct the metadata of the model, such as its class names, mean and std.",
    ),
    Code.SIGNATURE: Explanation(
        "The bundle is not signed with the given key",
        "A public key was given, and the bundle has no signature, or one of another key, or was changed after it was "
        "signed.",
        "Do not use the bundle. Get a copy that is signed, or the public key that belongs to it.",
    ),
    Code.KIT_OF_ANOTHER_BUNDLE: Explanation(
        "The result is that of a kit of another bundle",
        "A kit's checker writes the digest of the bundle that the kit was made from. The bundle was compiled again "
        "since, or the result belongs to another one.",
        "Make a kit of this bundle, run its checker again, and give its result file.",
    ),
    Code.MISSING_PACKAGE: Explanation(
        "A package is missing",
        "A missing package that no other code describes, mostly from a target or front end of another package.",
        "Follow the `so` line of the message.",
    ),
    Code.RUNTIME_MISSING: Explanation(
        "The target's runtime is not installed",
        "The package that runs the engine is missing.",
        "Install the extra that the message names, such as `pip install 'segc[openvino]'`.",
    ),
    Code.RUNTIME_BROKEN: Explanation(
        "A package cannot be imported",
        "The package is installed, but its import fails: a missing library, or a version for another Python.",
        "Reinstall it; the `because` line repeats its own message.",
    ),
    Code.FRONTEND_MISSING: Explanation(
        "A package that reads the source is not installed",
        "PyTorch traces Python models; mmsegmentation and mmcv build models from configs.",
        "Install the extra that the message names.",
    ),
    Code.OPTIONAL_PACKAGE: Explanation(
        "A package for an optional feature is not installed",
        "Saving masks needs Pillow, `--scheduler` Dask, signatures py-minisign, and bills of materials "
        "cyclonedx-python-lib.",
        "Install the package, or omit the option.",
    ),
    Code.TARGET_MISSING: Explanation(
        "No installed package offers the bundle's target",
        "The bundle was compiled for a target of another package.",
        "Install the package that offers the target.",
    ),
    Code.FILE: Explanation(
        "A file or folder cannot be used",
        "A failure to read or write that no other code describes, mostly from a target or front end of another "
        "package.",
        "Follow the `so` line of the message.",
    ),
    Code.NOT_FOUND: Explanation(
        "There is no such file or folder",
        "The path does not exist.",
        "Check the path.",
    ),
    Code.UNREADABLE: Explanation(
        "The file cannot be read",
        "The system refused to read the file or folder.",
        "Check permissions and the disk; the `because` line has the system's message.",
    ),
    Code.UNWRITABLE: Explanation(
        "The file cannot be written",
        "The system refused to write: no permission, no space, or a name that it does not allow.",
        "Choose another destination, or free space.",
    ),
    Code.DESTINATION_TAKEN: Explanation(
        "Something else lies at the destination",
        "segc replaces its own bundles only, and files only if asked to.",
        "Choose another destination, or move what lies there.",
    ),
    Code.IMAGE_UNREADABLE: Explanation(
        "The image cannot be read",
        "The file is missing, no image, cut off or of an unknown format.",
        "Check the file with an image viewer.",
    ),
    Code.NOT_A_RESULT: Explanation(
        "The file is no result of the support matrix",
        "The file is not the JSON that `segc matrix` writes.",
        "Give the JSON file that `segc matrix -o` writes beside its page.",
    ),
    Code.NO_SCHEDULER: Explanation(
        "No Dask scheduler answers",
        "The address is wrong, or the scheduler is not running.",
        "Start the scheduler, or omit `--scheduler`.",
    ),
    Code.IMAGE_TOO_LARGE: Explanation(
        "An image is too large",
        "It has more pixels than --max-pixels, by default 2^29 (23170x23170), or memory ran out for it. Sizes are read "
        "from the header before memory is asked for.",
        "Cut it into tiles, or raise `--max-pixels` on a machine with the memory: about 6 bytes a pixel beside what "
        "the engine takes.",
    ),
    Code.SIGNING_KEY: Explanation(
        "A key does not sign or check",
        "The file is no key of minisign, is of the other kind (public instead of secret), or its password is wrong.",
        "Give the key that `minisign -G` wrote, and the password of an encrypted key in SEGC_KEY_PASSWORD.",
    ),
    Code.NO_LABEL: Explanation(
        "An image has no label, or more than one",
        "`segc val` looks in the folder of --labels for a file of the image's name, whatever its extension: a.jpg and "
        "a.png belong together.",
        "Add or rename the label. Where labels have other names, as those of Cityscapes have, give an mmseg dataset "
        "config with `--dataset`.",
    ),
    Code.LABEL_UNUSABLE: Explanation(
        "A label holds no class numbers",
        "The pixels of a label are class numbers: the indices of a PNG with a palette, or the values of a grey one of "
        "8 or 16 bits. This file has colours, is a JPEG, whose compression changes numbers, or is damaged.",
        "Convert it to class numbers, as a PNG.",
    ),
    Code.LABEL_SIZE: Explanation(
        "An image and its label differ in size",
        "Every pixel of an image has one label. Masks are compared at the size of the image, as mmseg does.",
        "Give the label that belongs to the image, at its size.",
    ),
    Code.OTHER_STATE: Explanation(
        "The state file belongs to another evaluation",
        "A state file remembers what was counted for certain bundles and certain rules for labels. With other ones its "
        "numbers would be mixed with numbers that mean something else.",
        "Choose another file with `--state`, or delete this one to begin again.",
    ),
    Code.NO_PORT: Explanation(
        "The server cannot listen there",
        "Another program listens at that port, the address is none of this machine's, or ports below 1024 need more "
        "rights.",
        "Choose another `--port` or `--host`; `--port 0` takes a free one and says which.",
    ),
    Code.VIDEO_UNREADABLE: Explanation(
        "The video cannot be read",
        "The file is no video, its start is damaged, or it has sound alone; or the address or the camera does not "
        "answer. On standard input, an MP4 file must have its index at the start: a pipe cannot be read backwards.",
        "Look at it with a player. Give an MP4 file by its name, or write it with `-movflags +faststart`.",
    ),
    Code.VIDEO_CUT_OFF: Explanation(
        "The video is damaged or cut off",
        "Frames are missing at the end, or cannot be decoded, or change their size. What was made of the frames before "
        "is written.",
        "Copy or convert the video again.",
    ),
    Code.COMPILE: Explanation(
        "A step failed",
        "A failure that no other code describes, mostly from a target or front end of another package.",
        "Follow the `so` line of the message.",
    ),
    Code.EXPORT: Explanation(
        "torch.export failed",
        "PyTorch runs the model, but cannot trace it, often because of control flow that depends on data.",
        "Change the line of the model that the message names, or export to ONNX yourself and compile the file.",
    ),
    Code.PASS_FAULT: Explanation(
        "A pass broke a promise",
        "A pass left an invalid graph, two tensors of one name, changed the graph without saying so, or broke an "
        "invariant.",
        "This is a fault of the pass: report it, or leave the pass out.",
    ),
    Code.NUMBERS_DIFFER: Explanation(
        "The numbers changed",
        "`--check` or a comparison found that the graph computes something else than before, or could not compare.",
        "The message names the first pass after which numbers differ: report it.",
    ),
    Code.CANNOT_SPLIT: Explanation(
        "The graph cannot be split there",
        "A tensor between two segments has a type that one of the engines cannot pass.",
        "Compile without a hybrid bundle, or for another target.",
    ),
    Code.EMISSION: Explanation(
        "The target's files cannot be written",
        "The graph passed the target's table, but its form cannot be written for this runtime, or does not read "
        "back as written.",
        "Choose another target; please report the model.",
    ),
    Code.ENGINE_BUILD: Explanation(
        "The engine cannot be built",
        "The vendor's builder crashed, took too long, or returned no engine.",
        "Follow the `so` line; more memory, another GPU or fp32 help most often.",
    ),
    Code.BUILD_MEMORY: Explanation(
        "The builder ran out of memory",
        "Building needs more memory than the machine or its GPU has free.",
        "Close other programs, lower the builder's workspace, or use a smaller shape.",
    ),
    Code.BUILD_DEVICE: Explanation(
        "The builder cannot use this machine",
        "The builder needs a GPU of the target's platform and a driver that is new enough.",
        "Build on such a machine: compile with the deferred build and run `segc build` there.",
    ),
    Code.ENGINE_LOAD: Explanation(
        "The engine cannot be loaded",
        "The runtime refuses the engine file.",
        "Check that the runtime's version is the one in the manifest, or compile again.",
    ),
    Code.ENGINE_RUN: Explanation(
        "The engine failed while it ran",
        "The runtime raised an error during inference; the `because` line has its message.",
        "Compile for another target to see whether the runtime is at fault; check memory for large inputs.",
    ),
    Code.ENGINE_PROCESS: Explanation(
        "The engine's process ended or cannot start",
        "The runtime crashed its process, ran out of memory, or the system allows no further process.",
        "Free memory; if it happens again, the runtime has a fault with this model: choose another target.",
    ),
    Code.ENGINE_PLATFORM: Explanation(
        "The engine does not fit this machine",
        "The engine is not built yet, or was built for another GPU, platform or version of the runtime.",
        "Run `segc build` on this machine, or use the machine that it was built for.",
    ),
    Code.ENGINE_OUTPUT: Explanation(
        "The engine returned an output of the wrong shape",
        "The runtime computes a size differently from ONNX.",
        "Compile with `--check`; please report the model.",
    ),
    Code.OUT_OF_MEMORY: Explanation(
        "Memory ran out",
        "The machine, or the limit of this process (`ulimit -v`, a container), has no more memory. Loading the "
        "libraries alone takes about 1 GB of address space for `segc run` and 2 GB for `segc compile`.",
        "End other programs, raise the limit, or use a smaller model, size or image.",
    ),
}

_START, _END = "<!-- codes: generated -->", "<!-- end of codes -->"


def explain(code: Code) -> str:
    """The explanation of a code as plain text."""
    exit_code, group = GROUPS[code[5]]
    entry = EXPLANATIONS[code]
    return f"{code}  {entry.title}\n\n{entry.meaning}\n\nWay out: {entry.way_out}\n\nExit code {exit_code}: {group}."


def reference() -> str:
    """The reference of all codes as Markdown."""
    lines: list[str] = []
    for letter, (exit_code, title) in GROUPS.items():
        lines += [f"### {title} (exit code {exit_code})", ""]
        for code in (c for c in Code if c[5] == letter):
            entry = EXPLANATIONS[code]
            paragraphs = (f"**{entry.title}.** {entry.meaning}", f"*Way out:* {entry.way_out}")
            lines += [f"#### {code}", ""]
            lines += [line for text in paragraphs for line in (*_wrapped(text), "")]
    return "\n".join(lines)


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, 120, break_long_words=False, break_on_hyphens=False)


def with_reference(page: str) -> str:
    """The page with the reference between its two markers."""
    before, rest = page.split(_START, 1)
    return f"{before}{_START}\n\n{reference()}\n{_END}{rest.split(_END, 1)[1]}"


if __name__ == "__main__":
    path = Path(__file__).parents[2] / "docs" / "errors.md"
    path.write_text(with_reference(path.read_text(encoding="utf-8")), encoding="utf-8")
