"""What differs between ComfyUI versions, as facts in one table."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Profile:
    """One version of the server, as seen from outside. Each flag is read where the server decides.

    Sources: ComfyUI ``server.py`` (``post_prompt``, ``post_interrupt``, ``websocket_handler``) and
    ``execution.py`` of the named versions.
    """

    name: str
    version: str
    client_prompt_ids: bool = True
    """POST /prompt takes a `prompt_id` of the client's making."""
    unique_prompt_ids: bool = False
    """A prompt id that is queued, running or done is refused with 409."""
    targeted_interrupt: bool = True
    """POST /interrupt looks at the `prompt_id` in its body; older servers stop whatever runs."""
    jobs: bool = True
    """There are /api/jobs, /api/jobs/{id} and their cancel."""
    assets: bool = True
    """There are /api/assets, /node_replacements and /global_subgraphs."""
    progress_state: bool = True
    """Cumulative `progress_state` snapshots are sent."""
    feature_flags: bool = True
    """`feature_flags` is answered, /features exists, previews may carry metadata (binary kind 4)."""
    missing_node_type: bool = True
    """An unknown class is `missing_node_type`; older servers say `invalid_prompt`."""
    names_cycles: bool = True
    """A loop of links is a `dependency_cycle`; older servers refuse it without a word."""
    explains_errors: bool = True
    """An `exception_message` ends with a line break, after which there may be advice."""
    deaf_sockets: bool = True
    """The end of an older socket makes the server forget the newer one of the same client id."""
    credential_key: bool = False
    """The first `status` carries a key that a reconnect must show within 5 s."""


PROFILES = {
    profile.name: profile
    for profile in (
        Profile(
            "0.3.40",
            "0.3.40",
            client_prompt_ids=False,
            targeted_interrupt=False,
            jobs=False,
            assets=False,
            progress_state=False,
            feature_flags=False,
            missing_node_type=False,
            names_cycles=False,
            explains_errors=False,
        ),
        Profile("0.33", "0.33.0"),
        Profile("next", "0.39.0", unique_prompt_ids=True, deaf_sockets=False, credential_key=True),
    )
}
"""By the name that `SimulatedServer(profile=...)` takes."""
