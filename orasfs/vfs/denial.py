"""Which failures of a probe mean as much as "there is no such repository"; pure."""

from orasfs.errors import (
    CredentialsRejected,
    CredentialsUnusable,
    NotFound,
    OrasfsError,
    RateLimited,
    RegistryError,
    RegistryFailure,
    Unsupported,
)


def is_denial(error: OrasfsError) -> bool:
    """Tell whether an answer to a probe means as much as "no such repository".

    401 and 403 are what registries say of what does not exist (docs/SEMANTICS.md); a
    passing fault is never a denial, and neither are credentials that do not work.
    """
    if isinstance(error, NotFound | Unsupported):
        return True
    return isinstance(error, RegistryError) and not isinstance(
        error, RegistryFailure | RateLimited | CredentialsRejected | CredentialsUnusable
    )
