"""The pretrained backbones by name: the one table of sizes, preprocessing, widths and weights files.

It holds facts of `keras.applications` and imports nothing of it: `params.yaml` is checked by them, and the weights are
downloaded, where no TensorFlow is wanted. Sizes, preprocessing and digests are those in the source of Keras 3.15.
"""

from dataclasses import dataclass
from typing import Literal

BackboneName = Literal[
    "MobileNet",
    "MobileNetV2",
    "MobileNetV3Small",
    "MobileNetV3Large",
    "VGG16",
    "VGG19",
    "ResNet50",
    "ResNet101",
    "ResNet50V2",
    "Xception",
    "InceptionV3",
    "DenseNet121",
    "EfficientNetB0",
    "EfficientNetV2B0",
    "NASNetMobile",
    "ConvNeXtTiny",
]
#: What a net's own `preprocess_input` does to pixels of 0..255. `signed` scales them to -1..1; `bgr_mean` swaps red
#: and blue and takes ImageNet's mean off each channel; `mean_std` scales to 0..1 and standardises each channel by
#: ImageNet; `inside` does nothing, since the net's own first layers do it.
Preprocessing = Literal["signed", "bgr_mean", "mean_std", "inside"]

#: With which each HDF5 file begins, as all weights files are.
HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
ADDRESS = "https://storage.googleapis.com/tensorflow/keras-applications"


@dataclass(frozen=True)
class WeightsFile:
    """The ImageNet weights of a net without its classifier, as Keras publishes them.

    Attributes:
        address: Where it is.
        md5: Its MD5 in Keras's source, or nothing where Keras states none.
        sha256: Its SHA-256 in Keras's source, or one that we have found ourselves, or nothing.
        keras_name: Its name in the user's Keras folder, where that isn't the address's.
    """

    address: str
    md5: str = ""
    sha256: str = ""
    keras_name: str = ""

    @property
    def name(self) -> str:
        """The file's name."""
        return self.address.rpartition("/")[2]


@dataclass(frozen=True)
class Backbone:
    """Published facts about a net.

    Attributes:
        input_size: Height and width, in pixels, of the images that it was trained on.
        least_size: The smallest images that it can be built for.
        preprocessing: What `preprocess_input` does.
        files: Weights files by width multiplier (alpha); by None where the net comes in one width.
    """

    input_size: int
    least_size: int
    preprocessing: Preprocessing
    files: dict[float | None, WeightsFile]

    @property
    def alphas(self) -> tuple[float | None, ...]:
        """The widths in which it is published; `(None,)` is one width without a multiplier."""
        return tuple(self.files)


def _only(address: str, md5: str = "", sha256: str = "", keras_name: str = "") -> dict[float | None, WeightsFile]:
    return {None: WeightsFile(address, md5, sha256, keras_name)}


def _dim_ordering(folder: str, name: str, md5: str) -> dict[float | None, WeightsFile]:
    """Names a file as the older nets' are named."""
    return _only(f"{ADDRESS}/{folder}/{name}_weights_tf_dim_ordering_tf_kernels_notop.h5", md5)


#: Keras states no digest of any of these; the SHA-256 is that of the file on which we have built this study.
_MOBILENET: dict[float | None, WeightsFile] = {
    0.25: WeightsFile(
        f"{ADDRESS}/mobilenet/mobilenet_2_5_224_tf_no_top.h5",
        sha256="dbdb03ee2a22fd895301636cd328b234bb3a9952358f436d82f46b81e0d5b0bf",
    ),
    0.5: WeightsFile(f"{ADDRESS}/mobilenet/mobilenet_5_0_224_tf_no_top.h5"),
    0.75: WeightsFile(f"{ADDRESS}/mobilenet/mobilenet_7_5_224_tf_no_top.h5"),
    1.0: WeightsFile(f"{ADDRESS}/mobilenet/mobilenet_1_0_224_tf_no_top.h5"),
}
#: Nor of these.
_MOBILENET_V2: dict[float | None, WeightsFile] = {
    alpha: WeightsFile(f"{ADDRESS}/mobilenet_v2/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{alpha}_224_no_top.h5")
    for alpha in (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)
}


def _mobilenet_v3(size: str, narrow_md5: str, full_md5: str) -> dict[float | None, WeightsFile]:
    address = f"{ADDRESS}/mobilenet_v3/weights_mobilenet_v3_{size}_224_{{alpha}}_float_no_top_v2.h5"
    return {
        alpha: WeightsFile(address.format(alpha=alpha), md5) for alpha, md5 in ((0.75, narrow_md5), (1.0, full_md5))
    }


BACKBONES: dict[BackboneName, Backbone] = {
    "MobileNet": Backbone(224, 32, "signed", _MOBILENET),
    "MobileNetV2": Backbone(224, 32, "signed", _MOBILENET_V2),
    "MobileNetV3Small": Backbone(
        224, 32, "inside",
        _mobilenet_v3("small", "ebdb5cc8e0b497cd13a7c275d475c819", "d3e8ec802a04aa4fc771ee12a9a9b836"),
    ),
    "MobileNetV3Large": Backbone(
        224, 32, "inside",
        _mobilenet_v3("large", "40af19a13ebea4e2ee0c676887f69a2e", "07fb09a5933dd0c8eaafa16978110389"),
    ),
    "VGG16": Backbone(
        224, 32, "bgr_mean", _dim_ordering("vgg16", "vgg16", "6d6bbae143d832006294945121d1f1fc")
    ),
    "VGG19": Backbone(
        224, 32, "bgr_mean", _dim_ordering("vgg19", "vgg19", "253f8cb515780f3b799900260a226db6")
    ),
    "ResNet50": Backbone(
        224, 32, "bgr_mean", _dim_ordering("resnet", "resnet50", "4d473c1dd8becc155b73f8504c6f6626")
    ),
    "ResNet101": Backbone(
        224, 32, "bgr_mean", _dim_ordering("resnet", "resnet101", "88cf7a10940856eca736dc7b7e228a21")
    ),
    "ResNet50V2": Backbone(
        224, 32, "signed", _dim_ordering("resnet", "resnet50v2", "fac2f116257151a9d068a22e544a4917")
    ),
    "Xception": Backbone(
        299, 71, "signed", _dim_ordering("xception", "xception", "b0042744bf5b25fce3cb969f33bebb97")
    ),
    "InceptionV3": Backbone(
        299, 75, "signed",
        _dim_ordering("inception_v3", "inception_v3", "bcbd6486424b2319ff4ef7d526e38f63"),
    ),
    "DenseNet121": Backbone(
        224, 32, "mean_std", _dim_ordering("densenet", "densenet121", "30ee3e1110167f948a6b9946edeeb738")
    ),
    "EfficientNetB0": Backbone(
        224, 32, "inside",
        _only(
            "https://storage.googleapis.com/keras-applications/efficientnetb0_notop.h5",
            md5="50bc09e76180e00e4465e1a485ddc09d",
        ),
    ),
    "EfficientNetV2B0": Backbone(
        224, 32, "inside",
        _only(f"{ADDRESS}/efficientnet_v2/efficientnetv2-b0_notop.h5", md5="893217f2bb855e2983157299931e43ff"),
    ),
    "NASNetMobile": Backbone(
        224, 32, "signed",
        _only(
            f"{ADDRESS}/nasnet/NASNet-mobile-no-top.h5",
            md5="1ed92395b5b598bdda52abe5c0dbfd63",
            keras_name="nasnet_mobile_no_top.h5",
        ),
    ),
    "ConvNeXtTiny": Backbone(
        224, 32, "inside",
        _only(
            f"{ADDRESS}/convnext/convnext_tiny_notop.h5",
            sha256="d547c096cabd03329d7be5562c5e14798aa39ed24b474157cef5e85ab9e49ef1",
        ),
    ),
}  # fmt: skip
