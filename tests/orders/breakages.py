#!/usr/bin/env python3
"""Breaks the protocol on purpose, one place at a time, and tells which of these the orders of requests show.

  breakages.py check            every place is where this file says, once; scripts/test does this
  breakages.py run [WORD..]     breaks each, or those whose name has one of the words, in a copy of the tree; half an hour for all
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
COPY = ROOT / "target" / "breakages"
# One of so many explorations of the short form.
EVERY = os.environ.get("ORDERS_EVERY", "3")
LIST = "orders"

PUT, REPLACE = "src/store/stored.rs", "src/store/stored.rs"
ROWS, WRITER = "src/store/rows.rs", "src/store/rows/writer.rs"
CONFIRM, SETTLE, PLAN = (f"src/sessions/commit/{name}.rs" for name in ("confirm", "settle", "plan"))
REVOCATION, SUBJECTS, CACHE = (f"src/store/revocation{name}.rs" for name in ("", "/subjects", "/cache"))
FETCH, SESSIONS, STATE, COMMIT = "src/sessions/fetch.rs", "src/sessions.rs", "src/core/state.rs", "src/sessions/commit.rs"

# What is broken, by whom it is seen (the orders, or a test of tests/it), where, what is there, and what takes its place.
BREAKAGES = [
    ("a write goes over an end", LIST, PUT, """                Some(Found::Ended(..)) => return Err(NotDone::Lost(Rejection::Revoked)),
            }
            let content = Content::Live {""", """                Some(Found::Ended(..)) => {}
            }
            let content = Content::Live {"""),
    ("a write goes over what others have written", LIST, PUT, """                    self.rebase(work, live)?;
                }
                Some(Found::Absent""", """                }
                Some(Found::Absent"""),
    ("a row that has gone is created again", "a_write_to_a_row_that_is_gone_creates_nothing_and_sends_no_cookie_and_is_told_once", PUT, "Some(Found::Absent | Found::Bound(..)) if !creates => {", "Some(Found::Absent | Found::Bound(..)) if false => {"),
    ("a renewal leaves behind what others have written", LIST, REPLACE, "Some(Found::Live(live)) if !is_elsewhere => drop(self.rebase(work, live)?),", "Some(Found::Live(_)) if !is_elsewhere => {}"),
    ("a renewal ends nothing", LIST, REPLACE, "if is_spared || is_over || former.write(Content::Ended(mark), ended_until).await?.is_some() {", "if is_spared || is_over || ended_until.0 != 0 {"),
    ("a renewal goes over an end", LIST, REPLACE, "                Some(Found::Absent) if in_cookie => {}\n", "                Some(Found::Absent | Found::Ended(..)) if in_cookie => {}\n"),
    ("a login over any end keeps all", LIST, REPLACE, "if by.is_none() || by != mark {", "if by.is_none() && by.is_some() {"),
    ("the second of two logins starts empty", LIST, REPLACE, "if by.is_none() || by != mark {", "if by.is_none() || by.is_some() {"),
    ("a cookie is prolonged whatever the row says", LIST, PUT, """        if self.rows.extend(id, row.revision, expires_at, deadline).await? {
            return Ok(());
        }
        // Somebody""", """        if self.rows.extend(id, row.revision, expires_at, deadline).await? || id != SessionId::NONE {
            return Ok(());
        }
        // Somebody"""),
    ("a mark ends at once", LIST, ROWS, "lifetime::mark_end(&header.times, &self.limits.terms, self.now)\n", "{ let _ = header; self.now.plus(Millis(1)) }\n"),
    ("a row ends before its cookie", LIST, STATE, "lifetime::first_end(times, &limits.terms, now.max(times.anchor)).0.plus(SKEW)", "lifetime::first_end(times, &limits.terms, now.max(times.anchor)).0.minus(SKEW)"),
    ("an older cookie's entries count", LIST, PUT, "        if work.issued() > seen.counter {\n            return Ok(seen);", "        if work.issued() > 0 || seen.counter > 0 {\n            return Ok(seen);"),
    ("a newer cookie's entries do not count", "a_login_with_a_cookie_that_is_newer_than_the_row_keeps_what_only_the_cookie_has", PUT, "        if work.issued() > seen.counter {\n            return Ok(seen);", "        if work.issued() > seen.counter && seen.counter > 1_000_000 {\n            return Ok(seen);"),
    ("a cookie from before the move counts", LIST, SESSIONS, "Some(LiveRow { seen, .. }) if from_pre_spill_cookie && header.counter > seen.counter => {", "Some(LiveRow { seen, .. }) if from_pre_spill_cookie => {"),
    ("a row forgets to which device its session is bound", LIST, PUT, "let content = Content::Live { counter, device: device.as_ref(), entries: &work.entries };", "let content = Content::Live { counter, device: None, entries: &work.entries };"),
    ("what is bound to a device is renewed without a proof", LIST, REPLACE, "let is_elsewhere = self.limits.is_elsewhere(device, &work.devices());", "let is_elsewhere = device.is_some_and(|_| false);"),
    ("what is bound to a device is ended without a proof", LIST, PUT, "if ours.is_some_and(|ours| self.limits.is_elsewhere(found.device(), ours)) =>", "if ours.is_some_and(|_| found.device().is_none() && found.device().is_some()) =>"),
    ("a session that has moved meanwhile is not bound", LIST, PUT, "Some(Found::Live(_)) => return Ok(false),", "Some(Found::Live(_)) => return Ok(true),"),
    ("what a row says of the device is not looked at", LIST, FETCH, "filter(|&key| visit.limits.is_elsewhere(Some(key), &ours))", "filter(|_| ours.is_empty())"),
    ("a login beside a binding fails", "a_login_leaves_a_session_alone_that_is_bound_in_this_moment_and_begins_another", REPLACE, "if is_elsewhere && work.authenticated => {", "if is_elsewhere && ends_own(work) => {"),
    ("a login beside a binding ends what is bound", "a_login_leaves_a_session_alone_that_is_bound_in_this_moment_and_begins_another", REPLACE, "is_spared = !ends_own(work);", "is_spared = false;"),
    ("a write that nobody answered for counts as done", LIST, ROWS, "                    _ => Err(error),\n                }", "                    _ => Ok(true),\n                }"),
    ("a write that nobody answered for counts as failed", LIST, ROWS, "Ok(Some(row)) if row.has_had(revision) => Ok(true),", "Ok(Some(row)) if row.has_had(revision) && expires_at.0 == 0 => Ok(true),"),
    ("a write that was repeated counts as another's", LIST, WRITER, "if !is_there && !since {", "if !is_there || !since {"),
    ("what was left by the one before is taken for what was loaded", "who_waited_for_a_row_is_told_by_the_one_before_what_is_there", WRITER, "                Some(row) => writer.observe(row),\n", "                Some(_) => {}\n"),
    ("what took a session's place is handed on", "what_one_login_leaves_to_the_next_is_read_again", WRITER, "&& !matches!(content, Content::Ended(Some(_))) {", "{"),
    ("whether a session goes on is not asked before it is prolonged", LIST, CONFIRM, "if same_id && plan.row == RowStep::Leave {", "if same_id && plan.row == RowStep::Leave && questions.visit.now.0 == 0 {"),
    ("a session is prolonged in another generation of its subject", LIST, CONFIRM, "if opening.is_some_and(|present| present != work.header.generation) {", "if opening.is_some_and(|present| present != work.header.generation && present == 0) {"),
    ("a login takes along what was revoked", LIST, CONFIRM, """            if is_over {
                work.start_empty(&self.limits);
            }""", ""),
    ("another user keeps the entries", LIST, STATE, """            self.entries = nothing;
            // What""", """            // What"""),
    ("an answer that was under way undoes what is known", "an_answer_from_before_the_end_does_not_undo_it", CACHE, "let is_newest = *known.epoch(&key) == epoch;", "let is_newest = *known.epoch(&key) == epoch || epoch < u64::MAX;"),
    ("a session that was moved is still taken for one in its cookie", LIST, REVOCATION, """    pub(crate) fn spilled(&self, id: SessionId) {
        self.sessions.forget_if(&id, |known| !matches!(known, Status::Ended(_)));""", """    pub(crate) fn spilled(&self, id: SessionId) {
        let _ = id;"""),
    ("who ends a session does not know it", LIST, SETTLE, "revoking.renewed(*id, by, now)", "drop((revoking, id, by))"),
    ("the subject is not asked for", LIST, FETCH, "            if self.core.or_assume(asked, false, id, revoking)? {", "            if self.core.or_assume(asked, false, id, revoking)? && visit.now.0 == 0 {"),
    ("an end stops where its client goes away", LIST, "src/sessions/commit/completion.rs", "runtime.spawn(async move { drop(work.await) });", "drop((work, runtime));"),
    ("a login takes along what a revoked key had sealed", "a_login_while_the_key_of_the_former_session_is_revoked_succeeds_and_starts_empty", COMMIT, """        if state.authenticated && self.is_disowned(state) {
            state.start_empty(&self.limits);""", """        if state.authenticated && self.is_disowned(state) {"""),
    ("what a revoked key had sealed leaves under another", "a_change_that_is_lost_with_its_key_leaves_no_message", SETTLE, "if self.is_disowned(&work) && !(work", "if self.is_disowned(&work) && now.0 == 0 && !(work"),
    ("a subject is revoked under one key alone", LIST, SUBJECTS, """            written.push(key);
""", """            written.push(key);
            break;
"""),
    ("an end that is there is not made to last", "a_revocation_by_id_lengthens_the_mark_that_is_there", PUT, "if self.rows.extend(id, by, until, self.deadline).await? {\n                        return Ok(Ending::WasOver);", "if self.rows.extend(id, by, Millis::ZERO.min(until), self.deadline).await? {\n                        return Ok(Ending::WasOver);"),
    ("what empties a session removes a newer cookie", "what_empties_a_session_that_a_login_has_ended_does_not_remove_the_logins_cookie", COMMIT, "_ if !destroyed && self.is_known_to_be_over(state) => {", "CookieStep::Prolong | CookieStep::Issue if self.is_known_to_be_over(state) => {"),
    ("a generation that was written twice counts as another's", "a_driver_that_repeats_the_write_of_everywhere_but_here_does_not_end_the_session_here", SUBJECTS, "if present == generation => break,", "if present == generation && generation == 0 => break,"),
    ("an unreadable row counts as ended for good", "a_renewal_that_meets_a_row_of_a_key_that_is_not_here_yet_ends_nothing_for_when_it_is", REPLACE, "if let Found::Unreadable(..) = met {", "if let (Found::Unreadable(..), true) = (met, in_cookie && work.row.is_some()) {"),
]


def places():
    """Every breakage is where this file says."""
    for name, _, path, there, instead in BREAKAGES:
        found = (ROOT / path).read_text().count(there)
        assert found == 1, f"{name}: what is to be broken is {found} times in {path}"
        assert there != instead
    print(f"{len(BREAKAGES)} places to break are where they are said to be")


def run(words):
    places()
    files = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True)
    tree = COPY / "tree"
    shutil.rmtree(tree, ignore_errors=True)
    for name in filter(lambda name: (ROOT / name).is_file(), files.stdout.splitlines()):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, tree / name)
    assert not shown(tree, LIST), "the tree as it is fails"
    missed = []
    chosen = [breakage for breakage in BREAKAGES if not words or any(word in breakage[0] for word in words)]
    for name, by, path, there, instead in chosen:
        text = (tree / path).read_text()
        (tree / path).write_text(text.replace(there, instead))
        began = time.monotonic()
        seen = shown(tree, by)
        print(f"{'seen' if seen else 'NOT SEEN'}, {time.monotonic() - began:.0f} s: {name}{f' ({by})' if by != LIST else ''}{seen}", flush=True)
        missed += [] if seen else [name]
        (tree / path).write_text(text)
    print(f"{len(chosen) - len(missed)} of {len(chosen)} seen")
    return bool(missed)


def shown(tree, by):
    """How it was shown, in words; empty: it was not."""
    test = ["--features", "memory,redb,tower,device-binding", "--test", "orders"]
    if by != LIST:
        test = ["--features", "memory,conformance,metrics,actix,device-binding", "--test", "it", by]
    env = os.environ | {"CARGO_TARGET_DIR": str(COPY / "target"), "ORDERS_EVERY": EVERY, "RUSTFLAGS": "-Awarnings"}
    ran = subprocess.run(["cargo", "test", "--locked", *test], cwd=tree, env=env, capture_output=True, text=True)
    if "test result:" not in ran.stdout:
        sys.exit(f"it does not build:\n{ran.stderr[-3000:]}")
    if by != LIST and not re.search(r"test result: \w+\. [1-9]\d* passed|[1-9]\d* failed", ran.stdout):
        sys.exit(f"there is no test {by}")
    kinds = re.search(r"\d+ kinds of failures in \d+ schedules", ran.stdout + ran.stderr)
    return "" if ran.returncode == 0 else f": {kinds[0]}" if kinds else ": a test fails"


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["check"]:
            places()
        case ["run", *words]:
            sys.exit(run(words))
        case _:
            sys.exit(__doc__)
