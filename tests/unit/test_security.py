"""Every attack that is thought of, and every promise about hostile guests, has a test: three tables that are total.

A row names tests as <file>::<test>. What docs/security.rst says of attackers and their deeds is one of them.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent
GUEST, CORE, WORKER, CONSUMER, COMMON = (
    f"tests/unit/{room}" for room in ("guest", "core", "worker", "consumer", "common")
)
RIGHTS = "tests/functional/test_rights.py"
CANNOT = (f"{RIGHTS}::test_what_a_node_cannot_do",)
HOSTILE = "tests/unit/test_hostile_guests.py"
CODEC, CHANNEL = f"{CORE}/test_codec.py", f"{CORE}/test_monitor_application.py"

#: What was tried against us with programs of its own, by kind.
KINDS: dict[str, tuple[str, ...]] = {
    "a guest that flaps, and asks for other times each time": (
        f"{CHANNEL}::test_a_wish_is_granted_once_a_minute",
        f"{CORE}/test_fault_register.py::test_of_a_guest_that_makes_faults_only_the_newest_clears_are_told_again",
        "tests/functional/test_flapping.py::test_five_minutes_of_each",
    ),
    "a fault that is made up, of an instance that is well": (
        f"{CONSUMER}/test_recovery_permits.py::test_each_is_confirmed",
    ),
    "a local user holds the name that keeps two workers apart": (
        f"{WORKER}/test_libvirt_lock.py::test_any_users_name_keeps_no_worker_from_its_start",
    ),
    "a datagram of a user's that ends the guest's daemon": (
        f"{GUEST}/test_faults.py::test_of_a_datagram",
        f"{GUEST}/test_users.py::test_numbers_in_any_spelling",
        f"{GUEST}/test_fuzz.py::test_nonsense",
    ),
    "datagrams of a user's that have it search for ever": (
        f"{GUEST}/test_names.py::test_every_order_in_which_four_can_join",
        f"{GUEST}/test_users.py::test_names_that_are_made_for_one_another",
    ),
    "a user who joins, ends, fills the places, floods": (
        f"{GUEST}/test_places.py::test_root_has_its_own",
        f"{GUEST}/test_users.py::test_floods",
        f"{GUEST}/test_users.py::test_a_user_with_many_users",
    ),
    "guests that answer at once and slowly in turns": (
        f"{CORE}/test_ask_schedule.py::test_guests_that_answer_at_once_and_slowly_in_turns_hold_up_nobody",
    ),
    "a fault that is taken in, and can't be read back": (
        f"{CONSUMER}/test_door.py::test_what_is_let_in_is_what_is_read_back",
        f"{CONSUMER}/test_door.py::test_a_row_that_cannot_be_read",
    ),
    "a date of any year": (f"{CONSUMER}/test_door.py::test_years_have_four_digits",),
    "recoveries that take all places": (
        f"{CONSUMER}/test_recovery_limits.py::test_share",
        "tests/functional/test_fairness.py::test_ten_silent_guests_of_one_tenant_hold_up_no_other",
    ),
    "messages that are none, and large ones": (
        f"{CONSUMER}/test_door.py::test_anything_at_all",
        f"{COMMON}/test_sizes.py::test_what_is_too_large_is_read_away",
    ),
    "signs of life of hosts that there are not": (
        f"{CONSUMER}/test_senders.py::test_ghosts",
        f"{CONSUMER}/test_senders.py::test_a_crowd",
        f"{CONSUMER}/test_housekeeper.py::test_ghosts_are_not_missed",
    ),
    "what a node's own user can do to others on the broker": CANNOT,
    "calls with arguments of any kind": (
        f"{WORKER}/test_rpc.py::test_bad_arguments_are_refused",
        f"{COMMON}/test_replies.py::test_where_answers_go",
        f"{COMMON}/test_replies.py::test_nobody_waits_for_a_queue_that_is_not_there",
        f"{COMMON}/test_replies.py::test_what_makes_no_sense_is_said_a_few_times",
    ),
    "a silence that somebody else's node tells a worker of": (
        f"{CORE}/test_announced_silences.py::test_nothing_that_is_announced_holds_for_longer_than_a_day",
        f"{WORKER}/test_callers.py::test_who_is_obeyed",
        f"{WORKER}/test_callers.py::test_what_is_sent_again_is_not_obeyed",
        f"{WORKER}/test_callers.py::test_what_was_signed_long_ago_is_not_obeyed",
        f"{CORE}/test_announced_silences.py::test_a_start_that_is_sent_again_begins_nothing_that_is_over",
    ),
    "an error of ours about one instance": (
        "tests/unit/test_engine_mishaps.py::test_a_fault_of_ours_about_one_instance_is_that_ones",
    ),
}

#: The design about hostile guests, sentence by sentence.
PROMISES: dict[str, tuple[str, ...]] = {
    "A guest controls every byte it sends, agent replies included (larger than 64 KiB: rejected unparsed).": (
        f"{HOSTILE}::test_replies_that_are_too_large_are_not_parsed",
        f"{HOSTILE}::test_whatever_an_agent_replies_is_no_exception",
        f"{CODEC}::test_no_input_does_harm",
        f"{CORE}/test_guest_exec.py::test_any_reply",
        "tests/unit/test_engine_health.py::test_a_command_ends_in_one_way",
    ),
    "Per guest: bounded line, buffer, rate, strings;": (
        f"{HOSTILE}::test_a_line_and_what_is_kept_of_it_are_bounded",
        f"{HOSTILE}::test_every_text_of_a_message_is_cut_and_cleaned",
        f"{CODEC}::test_a_line_that_is_too_long_is_dropped_whole",
        f"{CODEC}::test_texts_and_lists_are_bounded_and_clean",
        f"{WORKER}/test_application_sockets.py::test_a_flood_is_read_no_faster_than_it_may_come",
        f"{WORKER}/test_application_sockets.py::test_what_qemu_does_not_take_waits_within_bounds",
    ),
    "control characters stripped before logs;": (
        f"{HOSTILE}::test_no_text_of_a_guests_writes_where_people_read",
        f"{HOSTILE}::test_no_word_of_an_agents_writes_where_people_read",
        f"{CODEC}::test_texts_and_lists_are_bounded_and_clean",
        f"{GUEST}/test_codec.py::test_clean_text_fits_a_log",
    ),
    "no guest string ever chooses another instance, an action or a topic.": (
        f"{HOSTILE}::test_no_text_of_a_guests_chooses_anything",
        f"{CHANNEL}::test_a_guest_may_be_asked_more_often_and_never_less",
        f"{WORKER}/test_application_sockets.py::test_a_challenge_goes_out_and_its_answer_comes_in",
        f"{CONSUMER}/test_door.py::test_a_guest_cannot_hide_its_own_fault",
    ),
    "A guest can at worst make itself unmonitored, and that is reported;": (
        f"{HOSTILE}::test_who_makes_itself_unmonitored_is_told_of",
        f"{HOSTILE}::test_nobody_is_away_for_longer_than_the_operator_allows",
        f"{CHANNEL}::test_goodbye_disarms_and_is_told",
        f"{CHANNEL}::test_nobody_leaves_again_and_again",
        f"{CHANNEL}::test_maintenance_overrun_is_a_fault_of_its_own",
    ),
    "it can't pull the brake for others,": (
        f"{HOSTILE}::test_one_projects_guests_pull_no_brake_for_others",
        f"{CORE}/test_brake.py::test_one_project_does_not_hold_it",
    ),
    "spend their budget,": (
        f"{HOSTILE}::test_who_is_recovered_again_and_again_spends_nobody_elses_budget",
        f"{CORE}/test_caution.py::test_a_budget_for_each_instance",
        f"{CONSUMER}/test_recovery_permits.py::test_budget",
    ),
    "or grow our files.": (
        f"{HOSTILE}::test_a_guest_that_does_its_worst_grows_no_file",
        f"{CORE}/test_fault_register.py::test_of_a_guest_that_makes_faults_only_the_newest_clears_are_told_again",
        f"{CORE}/test_cleared_faults.py::test_instances_do_not_push_each_others_out",
        f"{WORKER}/test_topic_queue.py::test_the_longest_backlog_pays",
        f"{CORE}/test_bounded.py::test_in_any_time_no_more_than_that",
    ),
}

A_GUEST, A_USER, EITHER = "a guest, with root in it", "a user in a guest", "a user in a guest, or on the host"
LOCAL, NODE = "a user on the host", "a compute node, broken into"
#: docs/security.rst, "Who may do what to whom": who, and what is tried.
DEEDS: dict[tuple[str, str], tuple[str, ...]] = {
    (A_GUEST, "end or stop the worker by what it says"): (
        f"{CODEC}::test_no_input_does_harm",
        f"{CODEC}::test_a_line_that_is_too_long_is_dropped_whole",
    ),
    (A_GUEST, "flood its port"): (
        f"{WORKER}/test_application_sockets.py::test_a_flood_is_read_no_faster_than_it_may_come",
    ),
    (A_GUEST, "write into logs, terminals or XML"): (
        f"{CODEC}::test_texts_and_lists_are_bounded_and_clean",
        f"{WORKER}/test_rpc.py::test_text_of_a_policy_is_made_fit_for_xml",
    ),
    (A_GUEST, "speak for another instance, or choose an action or a topic"): PROMISES[
        "no guest string ever chooses another instance, an action or a topic."
    ],
    (A_GUEST, "hold up its neighbours by answers that are slow in turns"): KINDS[
        "guests that answer at once and slowly in turns"
    ],
    (A_GUEST, "fill files and queues by going silent and coming back"): PROMISES["or grow our files."],
    (A_GUEST, "have the recovery of others held back"): (
        f"{CORE}/test_brake.py::test_one_project_does_not_hold_it",
        f"{CONSUMER}/test_recovery_limits.py::test_share",
    ),
    (A_GUEST, "leave monitoring"): PROMISES["A guest can at worst make itself unmonitored, and that is reported;"],
    (A_USER, "be taken for the machine's application, or end it"): (
        f"{GUEST}/test_daemon.py::test_who_speaks_is_the_kernels_word",
        f"{GUEST}/test_users.py::test_whose_end_it_was_is_said",
        f"{GUEST}/test_users.py::test_a_user_who_may_not_join",
        f"{GUEST}/test_strangers.py::test_they_come_last",
    ),
    (A_USER, "take all places, or the time of others"): KINDS["a user who joins, ends, fills the places, floods"],
    (A_USER, "end ``vmhb-guest`` by a datagram"): KINDS["a datagram of a user's that ends the guest's daemon"],
    (EITHER, "have a program of his own run as root"): (
        f"{GUEST}/test_trust.py::test_every_part_counts",
        f"{GUEST}/test_trust.py::test_a_check_is_not_run",
    ),
    (LOCAL, "keep the worker from starting"): KINDS["a local user holds the name that keeps two workers apart"],
    (LOCAL, "read databases, keys or configuration"): (
        f"{CONSUMER}/test_database.py::test_its_files_are_its_owners_alone",
    ),
    (NODE, "read what others say and are told, or have copies of it"): CANNOT,
    (NODE, "delete or empty what others use"): CANNOT,
    (NODE, "answer calls that are meant for others"): (
        *CANNOT,
        f"{WORKER}/test_callers.py::test_whose_answer_is_believed",
    ),
    (NODE, "have an instance of another host recovered"): KINDS["a fault that is made up, of an instance that is well"],
    (NODE, "raise or clear faults of another host"): (
        f"{CONSUMER}/test_senders.py::test_who_is_heard",
        f"{CONSUMER}/test_senders.py::test_a_known_fault_is_its_host_s",
    ),
    (NODE, "tell another worker of silences and policies"): KINDS[
        "a silence that somebody else's node tells a worker of"
    ],
    (NODE, "hide losses behind hosts that do not exist"): KINDS["signs of life of hosts that there are not"],
    (NODE, "keep a consumer from starting, as one that has another database"): (
        f"{CONSUMER}/test_about.py::test_who_is_believed",
    ),
    (NODE, "end or fill the consumer by what it sends"): (
        *KINDS["a fault that is taken in, and can't be read back"],
        *KINDS["messages that are none, and large ones"],
    ),
    ("a tenant, by names and properties", "turn on what an operator did not"): (
        f"{COMMON}/test_policy.py::test_only_our_extra_specs_are_taken",
        f"{COMMON}/test_policy.py::test_the_operator_sets_defaults_and_bounds",
        "tests/unit/nova/test_wanted_policy.py",
    ),
    ("a stranger, with another service's user", "reach our queues"): (f"{RIGHTS}::test_what_a_stranger_cannot_do",),
    ("whoever is on the network", "read or change what is said"): (
        "tests/functional/test_tls.py::test_certificates_in_the_place_of_passwords",
    ),
}
TABLES: dict[str, Mapping[Any, tuple[str, ...]]] = {"kinds": KINDS, "promises": PROMISES, "deeds": DEEDS}


@cache
def named_in(file: str) -> frozenset[str]:
    """The names of its test functions."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return frozenset(
        node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name[:5] == "test_"
    )


@pytest.mark.parametrize("table", TABLES)
def test_every_row_has_its_tests(table: str) -> None:
    """They are in the tree, by these names."""
    for row, names in TABLES[table].items():
        assert names, row
        for name in names:
            file, _, test = name.partition("::")
            there = named_in(file)
            assert test in there if test else there, f"{row}: {name}"


def test_the_docs_say_what_is_tested() -> None:
    """docs/security.rst has a row for each deed, and none besides."""
    text = (ROOT / "docs/security.rst").read_text(encoding="utf-8")
    table = text[text.index(".. list-table::") : text.index("Who holds the consumer's host")]
    rows = re.findall(r"(?m)^   \* - (.*)\n     - (.*)$", table)
    assert rows[1:] == [*DEEDS]
