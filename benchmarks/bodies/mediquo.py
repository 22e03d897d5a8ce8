"""MediQuo's consultations and reports."""

from benchmarks.bodies.world import Body, World

ALLERGIES = ("Penicilina", "Polen", "Ácaros", "Frutos secos", "Látex")
DISEASES = ("Asma", "Migraña", "Hipertensión", "Diabetes mellitus tipo 2", "Hipotiroidismo")
MEDICATIONS = ("Salbutamol", "Ibuprofeno", "Enalapril", "Metformina", "Levotiroxina")
SUBSTANCES = ("paracetamol", "dextrometorfano", "salbutamol", "amoxicilina", "omeprazol", "cetirizina")
SPECIALITIES = ("Medicina General", "Pediatría", "Dermatología", "Psicología", "Ginecología")


def _soap(world: World) -> Body:
    return {part: world.prose() for part in ("subjective", "objective", "assessment", "plan")}


def _event(kind: str, world: World, payload: Body) -> Body:
    return {"type": kind, "occurred_on": int(world.now.timestamp()), "payload": payload}


def consultation(world: World) -> Body:
    rng, patient, professional = world.rng, world.patient(), world.rng.randrange(200)
    world.mediquo.append(patient)

    def history(letter: str, names: tuple[str, ...]) -> list[Body]:
        return [
            {
                "id": f"{letter}-{patient}-{names.index(name)}",
                "name": name,
                "description": rng.choice((None, "since childhood", "since 2010")),
            }
            for name in world.some(names, 0, 3)
        ]

    return _event(
        "patient_consultation_finished",
        world,
        {
            "consultation": {
                "id": world.id(),
                "type": "appointment",
                "start_date": world.local(rng.randint(10, 40)),
                "end_date": world.local(1),
                "speciality": {"id": 1, "name": rng.choice(SPECIALITIES)},
            },
            "reports": [
                {"id": world.id(), "type": "soap", "content": _soap(world)} for _ in range(rng.choice((1, 1, 1, 2)))
            ],
            "patient": {
                "code": f"patient-{patient}",
                "allergies": history("a", ALLERGIES),
                "diseases": history("d", DISEASES),
                "medications": [
                    {**item, "posology": "400 mg, at most twice a day"} for item in history("m", MEDICATIONS)
                ],
            },
            "professional": {
                "id": f"professional-{professional}",
                "name": f"Dra. Ejemplo {professional}",
                "avatar": f"https://images.example.org/{professional}.png",
            },
            "prescriptions": [
                {"id": world.id(), "active_substances": world.some(SUBSTANCES, 1, 3)}
                for _ in range(rng.choice((0, 1, 1)))
            ],
        },
    )


def report(world: World) -> Body:
    patient = world.rng.choice(world.mediquo) if world.mediquo else world.patient()
    return _event(
        "patient_report_sent",
        world,
        {"type": "soap", "content": _soap(world), "patient": {"code": f"patient-{patient}"}},
    )
