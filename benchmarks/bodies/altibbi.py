"""Altibbi's status updates and recommendations."""

from typing import Any

from benchmarks.bodies.world import Body, Consultation, World

STATUSES = ("new", "checking_medical_profile", "in_progress", "closed")

DIAGNOSES = (
    ("Acute bronchitis, unspecified", "J20.9"),
    ("Acute upper respiratory infection, unspecified", "J06.9"),
    ("Essential (primary) hypertension", "I10"),
    ("Type 2 diabetes mellitus without complications", "E11.9"),
    ("Gastro-oesophageal reflux disease with oesophagitis", "K21.0"),
    ("Urinary tract infection, site not specified", "N39.0"),
    ("Migraine without aura", "G43.0"),
    ("Atopic dermatitis, unspecified", "L20.9"),
    ("Low back pain", "M54.5"),
    ("Allergic rhinitis, unspecified", "J30.4"),
)
SYMPTOMS = (
    ("Cough", "R05"),
    ("Headache", "R51"),
    ("Fever, unspecified", "R50.9"),
    ("Nausea and vomiting", "R11"),
    ("Dizziness and giddiness", "R42"),
    ("Malaise and fatigue", "R53"),
    ("Rash and other nonspecific skin eruption", "R21"),
    ("Abdominal pain, unspecified", "R10.4"),
)
DRUGS = (
    ("PARACETAMOL", "EXAMPLADOL TAB 500 MG", "500", "tablet", "tablet"),
    ("IBUPROFEN", "SAMPLOFEN F.C. TAB 400 MG", "400", "tablet", "Film-coated tablet"),
    ("AMOXICILLIN", "SYNTHAMOX CAPS 500 MG", "500", "capsule", "Capsule, hard"),
    ("AMBROXOL", "SAMPLOXOL SYRUP 30 MG", "30", "ml", "Syrup"),
    ("OMEPRAZOLE", "EXEMPRAZOLE CAPS 20 MG", "20", "capsule", "Gastro-resistant capsule, hard"),
    ("CETIRIZINE", "EXAMPLERIZ TAB 10 MG", "10", "tablet", "tablet"),
    ("LACTULOSE", "SAMPLOLAC SOLUTION", "670", "tablespoon (10ml)", "Oral solution"),
)
FREQUENCIES = ("Once daily", "Twice daily", "Three times daily", "Four times daily", "Every 8 hours", "At bedtime")
LABS = ("Complete blood count", "FIT Test", "HbA1c", "Lipid profile", "Urine analysis", "TSH")
REFERRALS = ("Pulmonologist", "Dermatologist", "Gastroenterologist/ Stomach & Bowel Specialist", "Cardiologist")
FOLLOW_UPS = ("Do Lab Test", "Do the required radiation", "No Follow-up - Policy Expired")


def _event(kind: str, consultation: Consultation, world: World, **own: Any) -> Body:
    return {
        "type": kind,
        "consultation_id": consultation.id,
        "user_id": consultation.user,
        "insurance_id": f"INS-{consultation.user}",
        "policy_number": f"POL-{consultation.user % 97}",
        **own,
        "datetime": world.now.isoformat(timespec="microseconds").replace("+00:00", "Z"),
    }


def status(world: World) -> Body:
    consultation = world.altibbi_consultation()
    consultation.status += 1
    before = STATUSES[consultation.status - 1] if consultation.status else None
    if consultation.status == len(STATUSES) - 1:
        world.open.remove(consultation)
    return _event(
        "status_update", consultation, world, old_status=before or "new", new_status=STATUSES[consultation.status]
    )


def recommendation(world: World) -> Body:
    waiting = [item for item in world.open if item.status >= 2 and not item.recommended]
    consultation = world.rng.choice(waiting) if waiting else world.altibbi_consultation()
    consultation.recommended = True
    rng = world.rng
    data = {
        "icd10": {
            "symptom": [{"name": name, "code": code} for name, code in world.some(SYMPTOMS, 0, 3)],
            "diagnosis": [{"name": name, "code": code} for name, code in world.some(DIAGNOSES, 1, 2)],
        },
        "drug": {
            "fdaDrug": [
                {
                    "name": name,
                    "tradeName": trade,
                    "strengthValue": strength,
                    "packageType": "Blister",
                    "packageSize": "20",
                    "dosage": str(rng.randint(1, 2)),
                    "dosageUnit": unit,
                    "routeOfAdministration": "oral",
                    "dosageForm": form,
                    "frequency": rng.choice(FREQUENCIES),
                    "duration": rng.randint(3, 14),
                    "specialInstructions": None,
                    "relationWithFood": rng.choice(("after food", "before food", "")),
                    "howToUse": None,
                }
                for name, trade, strength, unit, form in world.some(DRUGS, 1, 4)
            ]
        },
        "lab": {"lab": [{"name": name} for name in world.some(LABS, 0, 2)]},
        "doctorReferral": {"name": rng.choice(REFERRALS)} if rng.random() < 0.3 else None,
        "followUp": [{"name": name} for name in world.some(FOLLOW_UPS, 0, 2)],
        "postCallAnswer": [
            {"question": question, "answer": world.prose(1, 2)}
            for question in world.some(("doctor_notes", "symptoms", "diagnosis", "fda_drug", "lab_codes"), 1, 4)
        ],
        "dispense": {
            "url": f"https://rx.example.org/p/{world.id()}",
            "pass_code": rng.randint(1000, 9999),
            "qr_code": f"https://rx.example.org/qr/{world.id()}",
        },
    }
    return _event("recommendation_data", consultation, world, data=data)
