"""Azodha's appointments, assessments and files."""

from datetime import timedelta

from benchmarks.bodies.world import Body, World


def appointment(world: World) -> Body:
    patient, start = world.patient(), world.now + timedelta(days=3)
    return {
        "eventName": "BookAppointment",
        "id": world.rng.randrange(10**6),
        "date": start.date().isoformat(),
        "startTime": start.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "endTime": (start + timedelta(minutes=30)).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "locationType": "TELEHEALTH",
        "status": "BOOKED",
        "patientId": f"patient-{patient}",
        "firstName": "Ana",
        "lastName": f"Sample{patient}",
        "email": f"ana.{patient}@example.org",
        "patientMobileNumber": "+15550100",
        "appointmentType": {"name": "Follow up", "description": "Video follow-up", "durationInMinutes": 30},
        "participants": [{"id": 12, "firstName": "Sam", "lastName": "Example", "role": "physician"}],
        "attributes": {"patientLocation": "CA", "chiefComplaint": "headache"},
        "resources": [],
    }


def _patient(world: World) -> Body:
    patient = world.patient()
    return {"id": f"patient-{patient}", "firstName": "Ana", "lastName": f"Sample{patient}", "gender": "FEMALE"}


def assessment(world: World) -> Body:
    return {
        "eventName": "SurveyAssessment",
        "eventType": "SURVEY",
        "eventSubType": "ASSESSMENT_COMPLETED",
        "userType": "serviceProvider",
        "data": {
            "patient": _patient(world),
            "assessment": {
                "id": world.rng.randrange(10**6),
                "name": "Sleep check",
                "status": "COMPLETED",
                "assessmentQuestionnaireObject": [
                    {
                        "pageNumber": 1,
                        "linkId": "q1",
                        "heading": "Sleep",
                        "label": "How many hours do you sleep?",
                        "type": "number",
                    }
                ],
                "assessmentResponseObject": {"q1": world.rng.randint(3, 9), "q2": "wakes once"},
                "assignedServiceProviders": [{"id": 12}],
            },
        },
    }


def file(world: World) -> Body:
    number = world.rng.randrange(10**6)
    return {
        "eventName": "UploadedFileAndTest",
        "data": {
            "patient": {**_patient(world), "birthDate": "1990-01-01"},
            "file": {"id": number, "name": "labs.pdf", "cloudId": f"{number}/labs.pdf", "isArchived": False},
            "providers": [],
        },
    }
