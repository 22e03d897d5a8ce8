from mappers.altibbi.payload import Recommendation
from mappers.context import Context
from mappers.contract import Mapped


def recommendation(event: Recommendation, context: Context) -> Mapped:
    return Mapped()
