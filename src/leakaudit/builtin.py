"""The core's own plugins: protocols, datasets and executors, announced through the same entry points as anyone's."""

from __future__ import annotations

from collections.abc import Iterable

from leakaudit.cohorts.phantom.params import PhantomParams
from leakaudit.cohorts.readers.params import Brats2018Params, Brats2023Params, MsdBrainParams, NiftiFolderParams, NnunetRawParams
from leakaudit.engine.executors import LocalParams
from leakaudit.plugins import API_VERSION, DatasetInfo, ExecutorInfo, ProtocolInfo, hookimpl
from leakaudit.protocols.params import CentralizedParams, FederatedParams, SplitParams


@hookimpl
def leakaudit_protocols() -> Iterable[ProtocolInfo]:
    """Centralized, split and federated training."""
    yield ProtocolInfo(
        name="centralized", summary="All patients pooled in one place: the upper baseline of utility.",
        params=CentralizedParams, target="leakaudit.protocols.centralized:Centralized", api_version=API_VERSION,
    )  # fmt: skip
    yield ProtocolInfo(
        name="split", summary="Split learning over modalities: activations and gradients cross the wire (Split-U-Net).",
        params=SplitParams, target="leakaudit.protocols.split:Split", api_version=API_VERSION,
        references=("Roth et al., DeCaF 2022, arXiv 2208.10553",),
    )  # fmt: skip
    yield ProtocolInfo(
        name="federated", summary="Federated averaging over hospitals: model updates cross the wire.",
        params=FederatedParams, target="leakaudit.protocols.federated:Federated", api_version=API_VERSION,
        references=("McMahan et al., AISTATS 2017, arXiv 1602.05629", "Li et al., MLMI 2019, arXiv 1910.00962"),
    )  # fmt: skip


@hookimpl
def leakaudit_datasets() -> Iterable[DatasetInfo]:
    """The synthetic phantom and readers for the public layouts of brain-tumor MRI."""
    yield DatasetInfo(
        name="phantom", summary="Synthetic multi-modal brain MRI with tumors, sites, repeat visits and planted identity.",
        params=PhantomParams, target="leakaudit.cohorts.phantom.dataset:Phantom", api_version=API_VERSION, synthetic=True,
        public=True, license="synthetic",
    )  # fmt: skip
    readers = "leakaudit.cohorts.readers.datasets:"
    yield DatasetInfo(
        name="brats-2018", summary="BraTS 2018 to 2021 training data: one folder per case, labels 1, 2 and 4.",
        params=Brats2018Params, target=f"{readers}Brats2018", api_version=API_VERSION, license="registration with the organizers",
    )  # fmt: skip
    yield DatasetInfo(
        name="brats-2023", summary="BraTS 2023 and 2024 training data: folders BraTS-XXX-id-timepoint.", params=Brats2023Params,
        target=f"{readers}Brats2023", api_version=API_VERSION, license="registration with the organizers",
    )  # fmt: skip
    yield DatasetInfo(
        name="msd-brain", summary="Medical Segmentation Decathlon Task01_BrainTumour: 4-D files.", params=MsdBrainParams,
        target=f"{readers}MsdBrain", api_version=API_VERSION, license="CC BY-SA 4.0",
        references=("Antonelli et al., Nature Communications 13:4128, 2022",),
    )  # fmt: skip
    yield DatasetInfo(
        name="nnunet-raw", summary="nnU-Net raw layout: imagesTr, labelsTr and dataset.json.", params=NnunetRawParams,
        target=f"{readers}NnunetRaw", api_version=API_VERSION,
    )  # fmt: skip
    yield DatasetInfo(
        name="nifti-folder", summary="Any folder of NIfTI files, described by a pattern.", params=NiftiFolderParams,
        target=f"{readers}NiftiFolder", api_version=API_VERSION,
    )  # fmt: skip


@hookimpl
def leakaudit_executors() -> Iterable[ExecutorInfo]:
    """Computation on this machine."""
    yield ExecutorInfo(
        name="local", summary="On this machine, each cell in a process of its own.", params=LocalParams,
        target="leakaudit.engine.executors:Local", api_version=API_VERSION,
    )  # fmt: skip
