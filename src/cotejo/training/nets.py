"""Networks that are trained from their first weights."""

from cotejo.data.splits import TrainingData
from cotejo.models.families import load_family
from cotejo.schema.trainings import Net
from cotejo.training.fit import Job, Prepare
from cotejo.training.hardware import Hardware


def prepare_net(settings: Net, data: TrainingData, _: Hardware) -> Prepare:
    """Returns a function that builds the network which a section of `params.yaml` declares."""
    dataset, family = data.dataset, load_family(settings.architecture)

    def prepare(_: int) -> Job:
        model = family.build_model(settings, dataset.image_shape, dataset.num_classes)
        return Job.of(model, data.train, data.val)

    return prepare
