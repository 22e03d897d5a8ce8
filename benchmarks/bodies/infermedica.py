"""Infermedica's notice that a survey is finished."""

from benchmarks.bodies.world import Body, World


def survey(world: World) -> Body:
    return {"event_type": "survey_finished", "content": {"survey_id": world.id()}}
