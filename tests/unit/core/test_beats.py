"""When an instance is challenged, and which of its beats are missed."""

from __future__ import annotations

import pytest

from vmhb_worker.core.beats import (
    DOUBT,
    IN_A_ROW,
    LONGEST_REQUEST,
    RECHECK,
    SAME_SPAN,
    TARDY,
    Beats,
    Judged,
    back_off,
    stagger,
)


def beats(interval: float = 10.0, timeout: float = 5.0) -> Beats:
    """The first one is due at 10."""
    return Beats(interval, timeout, first=10.0)


def test_a_beat_is_missed_when_a_request_was_out_for_all_of_its_timeout() -> None:
    """At its deadline, not before; and not while it has none."""
    schedule = beats()
    assert not schedule.open_due(9.9)
    assert schedule.open_due(10.0)
    schedule.asked(10.0)
    assert schedule.deadline() == 15.0
    assert schedule.judge(14.9, heard=14.8) == Judged()
    assert schedule.judge(15.0, heard=14.9) == Judged(missed=1)
    assert schedule.deadline() == 20.0


def test_a_request_that_left_late_has_its_whole_timeout() -> None:
    """It waited for a place in the lanes: that is not the guest's fault."""
    schedule = beats()
    schedule.open_due(10.0)
    schedule.asked(13.0)
    assert schedule.deadline() == 18.0
    assert schedule.judge(17.9, heard=17.8) == Judged()
    assert schedule.judge(18.0, heard=17.9) == Judged(missed=1)


def test_a_beat_for_which_nobody_was_asked_is_skipped() -> None:
    """No place in the lanes, or a request that told nothing about the guest."""
    schedule = beats()
    schedule.open_due(10.0)
    assert schedule.owed
    assert schedule.judge(15.0, heard=14.9) == Judged(skipped=1)
    schedule.open_due(20.0)
    schedule.asked(20.0)
    schedule.not_asked()
    assert schedule.judge(25.0, heard=24.9) == Judged(skipped=1)


def test_requests_that_follow_each_other_are_one() -> None:
    """libvirt gives up before the time-out is over: the next request goes on where it left off."""
    schedule = beats(timeout=12.0)
    schedule.open_due(10.0)
    schedule.asked(10.0)
    schedule.unanswered(20.0)
    schedule.open_due(20.0)
    schedule.asked(20.0 + SAME_SPAN)
    assert schedule.judge(22.0, heard=21.9) == Judged(missed=1)


def test_requests_with_a_gap_between_them_are_two() -> None:
    """What was not asked in between might have been answered."""
    schedule = beats(timeout=12.0)
    schedule.open_due(10.0)
    schedule.asked(10.0)
    schedule.unanswered(20.0)
    assert schedule.judge(20.1, heard=20.0) == Judged()
    schedule.asked(21.0)
    assert schedule.judge(22.0, heard=21.9) == Judged()
    assert schedule.judge(33.0, heard=32.9) == Judged(missed=1)


def test_a_request_that_ended_unanswered_counts_as_one_until_the_gap_is_too_long() -> None:
    """From then on nobody is being asked."""
    schedule = beats(timeout=12.0)
    schedule.open_due(10.0)
    schedule.asked(10.0)
    schedule.unanswered(15.0)
    assert schedule.judge(22.0, heard=21.9) == Judged(skipped=1)


def test_a_request_that_is_out_for_longer_than_any_can_be_is_none() -> None:
    """It waits for somebody else's agent command: at its deadlines nobody was asked."""
    schedule = beats(interval=5.0)
    missed = skipped = 0
    schedule.open_due(10.0)
    schedule.asked(10.0)
    for tick in range(11, 60):
        schedule.open_due(float(tick))
        judged = schedule.judge(float(tick), heard=float(tick))
        missed, skipped = missed + judged.missed, skipped + judged.skipped
    assert missed == 3
    assert 10.0 + LONGEST_REQUEST < 30.0
    assert skipped == 6


def test_libvirtd_must_show_that_it_lives_before_a_beat_is_missed() -> None:
    """It is given a moment for that; then the beat is skipped."""
    schedule = beats()
    schedule.open_due(10.0)
    schedule.asked(10.0)
    assert schedule.judge(15.0, heard=14.0) == Judged()
    assert 15.0 < schedule.deadline() < 15.0 + DOUBT
    assert schedule.judge(15.5, heard=15.2) == Judged(missed=1)
    schedule.open_due(20.0)
    schedule.judge(25.0, heard=15.2)
    assert schedule.judge(25.0 + DOUBT, heard=15.2) == Judged(skipped=1)


def test_an_answer_saves_every_open_beat() -> None:
    """However late it comes."""
    schedule = beats(interval=1.0)
    for second in (10.0, 11.0, 12.0):
        schedule.open_due(second)
    schedule.asked(10.0)
    schedule.acked()
    assert not schedule.owed
    assert schedule.judge(17.0, heard=17.0) == Judged()


def test_an_answer_that_is_none_misses_every_open_beat() -> None:
    """And says how many those were."""
    schedule = beats(interval=1.0)
    for second in (10.0, 11.0, 12.0):
        schedule.open_due(second)
    schedule.asked(10.0)
    assert schedule.refused() == 3
    assert schedule.refused() == 0


def test_what_is_void_does_not_count_and_what_is_out_counts_from_now_on() -> None:
    """A request that is with the guest stays with it; one that ended belongs to the past."""
    schedule = beats(interval=1.0)
    schedule.open_due(10.0)
    schedule.asked(10.0)
    schedule.void(13.0)
    schedule.open_due(11.0)
    assert schedule.deadline() == 12.0
    assert schedule.judge(17.9, heard=17.9) == Judged()
    assert schedule.judge(18.0, heard=18.0) == Judged(missed=1)
    ended = beats(interval=1.0)
    ended.open_due(10.0)
    ended.asked(10.0)
    ended.unanswered(13.0)
    ended.void(13.1)
    ended.open_due(11.0)
    assert ended.judge(16.0, heard=16.0) == Judged(skipped=1)


def test_beats_that_were_slept_through_are_skipped() -> None:
    """The guest is asked at once, but the next beat that counts is the next one that is not late."""
    schedule = beats(interval=1.0, timeout=1.0)
    assert schedule.open_due(20.0 + TARDY)
    assert not schedule.owed
    assert schedule.next_at == 21.0
    assert schedule.judge(20.6, heard=20.6) == Judged(skipped=11)
    assert schedule.judge(20.7, heard=20.7) == Judged()


def test_who_always_wakes_too_late_opens_them_all_the_same() -> None:
    """After three in a row, from the moment on that it is there: the next one is a whole interval later."""
    schedule = beats(interval=1.0, timeout=1.0)
    assert schedule.open_due(10.6)
    assert schedule.open_due(11.6)
    assert schedule.open_due(12.6)
    assert not schedule.owed
    assert schedule.open_due(13.6)
    assert schedule.owed
    assert schedule.next_at == 14.6
    schedule.asked(13.6)
    assert schedule.judge(14.6, heard=14.5) == Judged(missed=1, skipped=3)


@pytest.mark.parametrize(("interval", "tardy"), [(0.2, 0.1), (1.0, TARDY), (10.0, TARDY)])
def test_too_late_for_a_beat_is_half_of_a_short_interval(interval: float, tardy: float) -> None:
    """Or two in a row would be opened at the same moment, and missed by one silence."""
    in_time, late = beats(interval), beats(interval)
    in_time.open_due(10.0 + 0.99 * tardy)
    late.open_due(10.0 + 1.01 * tardy)
    assert (in_time.owed, late.owed) == (True, False)


def test_a_gap_between_requests_is_half_of_a_short_timeout_at_most() -> None:
    """Or a guest would be accused for a time-out in most of which it was not asked."""
    schedule = beats(interval=1.0, timeout=0.2)
    schedule.open_due(10.0)
    schedule.asked(10.0)
    schedule.unanswered(10.05)
    schedule.asked(10.16)
    assert schedule.judge(10.2, heard=10.2) == Judged()
    assert schedule.judge(10.36, heard=10.3) == Judged(missed=1)


def test_doubt_saves_three_beats_in_a_row() -> None:
    """Then what is open counts, until the guest answers. A doubt that meets no open beat is none."""
    schedule = beats(interval=1.0, timeout=1.0)
    for number in range(IN_A_ROW):
        schedule.open_due(10.0 + number)
        schedule.asked(10.0 + number)
        assert schedule.doubt(since=10.2 + number, now=10.5 + number)
        assert not schedule.owed
        assert schedule.doubt(since=10.6 + number, now=10.7 + number) is (number < IN_A_ROW - 1)
    schedule.open_due(13.0)
    schedule.asked(13.0)
    assert not schedule.doubt(since=13.2, now=13.5)
    assert schedule.judge(14.0, heard=13.9) == Judged(missed=1)
    schedule.open_due(14.0)
    schedule.refused()
    schedule.open_due(15.0)
    assert not schedule.doubt(since=15.2, now=15.5), "an answer that is none ends nothing"
    schedule.acked()
    schedule.open_due(16.0)
    assert schedule.doubt(since=16.2, now=16.5)


def test_one_doubt_is_one_however_long_it_lasts() -> None:
    """A libvirtd that is silent over ten beats, and then says so, has saved them once."""
    schedule = beats(interval=1.0, timeout=1.0)
    for second in range(10, 20):
        schedule.open_due(float(second))
        schedule.asked(float(second))
        schedule.judge(float(second), heard=9.5)
    assert schedule.doubt(since=9.5, now=20.0)
    for again in (30.0, 40.0):
        schedule.catch_up(again)
        schedule.open_due(again + 1.0)
        assert schedule.doubt(since=again, now=again + 1.5)
    schedule.open_due(42.0)
    assert not schedule.doubt(since=41.6, now=42.5)


def test_after_that_libvirtd_is_waited_for() -> None:
    """The beat is not skipped: as soon as it is known that the guest was asked, it counts."""
    schedule = beats(interval=10.0, timeout=1.0)
    for number in range(IN_A_ROW):
        at = 10.0 * (1 + number)
        schedule.open_due(at)
        schedule.asked(at)
        assert schedule.judge(at + 1.0 + DOUBT, heard=at - 1.0) == Judged(skipped=1)
    schedule.open_due(40.0)
    schedule.asked(40.0)
    assert schedule.judge(45.0, heard=39.0) == Judged()
    assert schedule.deadline() == 45.0 + RECHECK
    assert schedule.judge(45.1, heard=44.9) == Judged(missed=1)


def test_beats_of_a_time_in_which_nobody_was_judged_are_none() -> None:
    """And the schedule keeps its place among the others."""
    schedule = beats(interval=10.0)
    schedule.catch_up(97.0)
    assert schedule.next_at == 100.0
    schedule.catch_up(100.0 + TARDY)
    assert schedule.next_at == 100.0
    assert schedule.judge(98.0, heard=98.0) == Judged()


def test_a_schedule_can_be_begun_anew() -> None:
    """After a boot, or when the port was opened again."""
    schedule = beats()
    schedule.open_due(10.0)
    schedule.restart(12.0, 3.0)
    assert (schedule.next_at, schedule.owed) == (15.0, False)


def test_every_instance_has_its_place_in_the_interval() -> None:
    """The same at every start, and spread over all of it."""
    places = [stagger(f"uuid-{number}", 10.0) for number in range(1000)]
    assert places == [stagger(f"uuid-{number}", 10.0) for number in range(1000)]
    assert 0.0 <= min(places) < 0.1
    assert 9.9 < max(places) < 10.0


def test_back_off_doubles_up_to_its_bounds() -> None:
    """Ten intervals, a minute at most, and never more often than the policy says."""
    assert [back_off(1.0, attempt) for attempt in range(5)] == [2.0, 4.0, 8.0, 10.0, 10.0]
    assert [back_off(10.0, attempt) for attempt in range(4)] == [20.0, 40.0, 60.0, 60.0]
    assert back_off(300.0, 0) == 300.0
    assert back_off(10.0, 10_000) == 60.0
