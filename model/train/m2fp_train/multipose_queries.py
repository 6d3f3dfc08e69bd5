"""The graph that is exported of the parser on multipose: the same queries as `QueryParser`'s."""

from torch import Tensor

from m2fp_train.multipose_parser import MultiposeAnswer
from m2fp_train.persons import agreed_masks
from m2fp_train.queries import MOST_FURTHER_AGREEMENT, QueryParser


class MultiposeQueryParser(QueryParser):
    """As `QueryParser`, of the people that multipose finds."""

    def _persons(self, answer: MultiposeAnswer, somebody: Tensor) -> tuple[Tensor, Tensor]:
        masks = self.network.masks(answer)
        masks = agreed_masks(agreed_masks(masks, somebody), somebody, MOST_FURTHER_AGREEMENT)
        return self._person_classes(answer.found.chances, masks, somebody), masks
