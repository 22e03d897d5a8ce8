"""``fhirline keys rewrap``: wrapping all data keys with the current key-encryption key."""

from contextlib import closing

from fhirline.config.errors import KafkaAccessError
from fhirline.streams.cli.errors import CommandFailed, failing_with
from fhirline.streams.cli.keys.session import required_secrets
from fhirline.streams.cli.options import As, DryRun, Reason, Yes
from fhirline.streams.cli.output import confirm, counting, progress
from fhirline.streams.observe.terminal import counted


def rewrap(dry_run: DryRun = False, yes: Yes = False, reason: Reason = None, name: As = None) -> None:
    """Wrap every living data key with the current key-encryption key, and remove those that are destroyed.

    Runs beside gateways, workers and `forget`. Interrupted, run it again.

    Exit codes:

    * 0: done.
    * 1: the answer was no, Kafka failed after it had begun, or a data key could not be unwrapped. The rest is done.
    * 2: a wrong setting, a missing privilege, or the cluster does not answer.
    * 130: interrupted.

    Example:

    ```console
    $ fhirline keys rewrap --dry-run
    ```
    """
    from fhirline.config.exit_codes import INCOMPLETE
    from fhirline.config.settings import load_settings
    from fhirline.streams.cli.connection import require_topics
    from fhirline.streams.observe.audit import audit
    from fhirline.streams.observe.logs import configure_logging
    from fhirline.streams.operate.keys.data_keys import DataKeys
    from fhirline.streams.step5_publish.publish import PublishFailed

    settings = load_settings()
    configure_logging(settings)
    secrets = required_secrets(settings)
    require_topics(settings, None if dry_run else "operator")
    with progress() as reporter, closing(DataKeys(settings, secrets, counting(reporter))) as keys:
        found = keys.count()
    others = found.living.total() - found.living[secrets.current]
    removed = found.unusable.total()
    what = f"{counted(others, 'data key')} wrapped with {secrets.current}, {removed:,} destroyed ones removed"
    if dry_run:
        print(f"would be done: {what}. Nothing was done.")
        return
    confirm(f"To be done: {what}. Go on?", yes)
    audit("data keys wrapped anew", by="keys", name=name, kek=secrets.current, reason=reason)
    begun: dict[type[BaseException], int] = dict.fromkeys((PublishFailed, KafkaAccessError), INCOMPLETE)
    with (
        closing(DataKeys(settings, secrets)) as keys,
        progress() as reporter,
        failing_with("keys rewrap", begun, "run this again"),
    ):
        done = keys.rewrap(lambda count: reporter.show("wrapping", count, others))
    print(
        f"{counted(done.wrapped, 'data key')} wrapped with {secrets.current}, {done.removed:,} destroyed ones removed"
    )
    if done.wrapped:
        print(
            "Copy normalizer.keys into its backups before `fhirline keys destroy-old`: after it, nothing reads copies "
            "from before this run."
        )
    if done.destroyed_meanwhile:
        print(
            f"{counted(done.destroyed_meanwhile, 'data key')} destroyed meanwhile: {secrets.current} unwraps them, "
            "too, so their erasure is complete when it is destroyed as well"
        )
    if done.missing:
        listed = ", ".join(f"{kek or 'unknown'}: {number:,}" for kek, number in sorted(done.missing.items()))
        raise CommandFailed(
            "keys rewrap",
            f"data keys cannot be unwrapped, by key-encryption key: {listed}. Restore it from its backup, and run this "
            "again",
            INCOMPLETE,
        )
