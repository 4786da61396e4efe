"""Combine the profiles of the whole machine with a user's own profiles.

A user's profile overrides the machine profile of the same name. A machine profile with the key
``user`` belongs to that user; other users see only its name and owner.
"""

import os
from collections.abc import Iterable

from kconnd.core.access import Right, may
from kconnd.core.profile.model import Access, Profile
from kconnd.core.profile.problems import format_value
from kconnd.system.http.peer import user_as_peer
from kconnd.system.hung_calls import BeginStep, StuckError, ignore_step
from kconnd.system.profiles.faults import Fault
from kconnd.system.profiles.loader import (
    LoadedProfiles,
    SourcedProfile,
    exclude,
    fault_of,
    load_profiles,
)

NO_UID = -1  # used for the owner's uid, because the owner is certainly another user


def load_machine(
    paths: Iterable[str | os.PathLike[str]], begin: BeginStep = ignore_step
) -> LoadedProfiles:
    """Read the machine profiles.

    A machine profile that gives rights to other users must name the user that its kernel runs as.
    If a profile names no user, each user can start a kernel of the profile. The profile would then
    give other users rights to each of these kernels without the consent of the kernel's owner.
    """
    loaded = load_profiles(paths, uid=0, begin=begin)
    return exclude(loaded, lambda sourced: _shares_all_users(sourced.profile), _shares_all_fault)


def load_tiers(
    system: Iterable[str | os.PathLike[str]],
    own: Iterable[str | os.PathLike[str]],
    *,
    uid: int,
    user: str,
    begin: BeginStep = ignore_step,
) -> LoadedProfiles:
    """Read the machine profiles and the user's own profiles, which override machine profiles.

    Parameters
    ----------
    system : iterable of path
        Files and folders that root owns and that only root can write.
    own : iterable of path
        The user's files and folders, as for `load_profiles`.
    uid, user : int and str
        The uid and the login name of the daemon's owner. A machine profile that names another user
        belongs to that user.
    begin : callable
        As for `load_profiles`.
    """
    machine = load_machine(system, begin)
    own_loaded = exclude(
        load_profiles(own, uid=uid, begin=begin),
        lambda sourced: sourced.profile.user not in {"", user},
        _other_user_fault,
    )
    own_profiles = own_loaded.profiles
    elsewhere = {
        name: sourced.profile.user
        for name, sourced in machine.profiles.items()
        if sourced.profile.user not in {"", user}
    }
    usable = {name: item for name, item in machine.profiles.items() if name not in elsewhere}
    return LoadedProfiles(
        usable | own_profiles,
        (*machine.faults, *own_loaded.faults),
        {name: owner for name, owner in elsewhere.items() if name not in own_profiles},
        _shared_with(uid, [machine.profiles[name].profile for name in elsewhere], begin),
        first_faults=own_loaded.first_faults | machine.first_faults,
        overrides=tuple(
            f"{mine.file}:{mine.line}: {name} hides {shared.file}:{shared.line}, "
            "which all users have"
            for name, mine in own_profiles.items()
            if (shared := machine.profiles.get(name))
        ),
    )


def _shared_with(uid: int, profiles: Iterable[Profile], begin: BeginStep) -> dict[str, str]:
    """Return those profiles of other users that a user may see, each with its owner's name."""
    shared = [profile for profile in profiles if profile.access != Access()]
    if not shared:
        return {}
    try:
        begin(f"looking up the groups of uid {uid}")
    except StuckError:  # the user database does not answer; profiles are usable without an answer
        return {}
    peer = user_as_peer(uid)
    return {
        profile.name: profile.user
        for profile in shared
        if may(peer, Right.SEE, owner=NO_UID, rules=profile.access)
    }


def _shares_all_users(profile: Profile) -> bool:
    return not profile.user and profile.access != Access()


def _shares_all_fault(sourced: SourcedProfile) -> Fault:
    return fault_of(
        sourced,
        "access",
        "it would open every user's own kernel of this name to others",
        "name the one user whose kernel is shared with 'user: NAME', or remove access",
    )


def _other_user_fault(sourced: SourcedProfile) -> Fault:
    return fault_of(
        sourced,
        "user",
        f"{format_value(sourced.profile.user)} is another user",
        "only a profile of the whole machine can name another user",
    )
