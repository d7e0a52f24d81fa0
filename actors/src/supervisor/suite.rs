//! All cases of OTP's `supervisor_SUITE` (OTP 28, 93 of them) by name: run against the pure functions, or not applicable,
//! with the reason. `tests/it/supervisor.rs` runs representative ones over real processes.
//!
//! OTP's words in ours: an exit `normal` is exit code 0. An exit `shutdown` means that somebody asked for the end: if that was
//! the supervisor, it is [`Roster::stopped`]; if it was anybody else, a process that leaves with code 0 obeyed
//! ([`End::Normal`], which OTP treats alike), and one that SIGTERM ended did not ([`End::Abnormal`]). The children of a
//! `simple_one_for_one` supervisor are dynamic children of one spec, each with its own id.
//!
//! [`Roster::stopped`]: super::strategy::Roster::stopped
//! [`End::Normal`]: super::strategy::End::Normal
//! [`End::Abnormal`]: super::strategy::End::Abnormal

mod cases;
mod significant;
mod starts;
mod storm;
mod world;

use cases as c;
use significant as s;
use starts as a;

/// What becomes of a case.
#[derive(Clone, Copy)]
enum Case {
    /// It runs against the pure functions.
    Pure(fn()),
    /// It is not applicable, because.
    Not(&'static str),
}

use Case::{Not, Pure};

const NO_IGNORE: &str = "a start gives a process or an error; nothing says `ignore`";
const NO_CALLBACK: &str = "a supervisor is described by data; no callback of the user runs in it";
const NO_EXTRA: &str = "a start gives a process and nothing else";
const NO_UPGRADE: &str = "code is not changed at run time, so no flags and specs of a running supervisor are";
const NO_REPORTS: &str = "there are no reports of OTP's form";

const CASES: [(&str, Case); 93] = [
    ("sup_start_normal", Pure(a::normal)),
    ("sup_start_ignore_init", Not(NO_CALLBACK)),
    ("sup_start_ignore_child", Not(NO_IGNORE)),
    ("sup_start_ignore_temporary_child", Not(NO_IGNORE)),
    ("sup_start_ignore_temporary_child_start_child", Not(NO_IGNORE)),
    ("sup_start_ignore_temporary_child_start_child_simple", Not(NO_IGNORE)),
    ("sup_start_ignore_permanent_child_start_child_simple", Not(NO_IGNORE)),
    ("sup_start_error_return", Not(NO_CALLBACK)),
    ("sup_start_fail", Pure(a::fail)),
    ("sup_start_child_returns_error", Pure(a::child_returns_error)),
    ("sup_start_restart_child_returns_error", Pure(a::restart_child_returns_error)),
    ("sup_start_child_returns_error_simple", Pure(a::child_returns_error)),
    ("sup_start_map", Pure(a::defaults)),
    ("sup_start_map_simple", Pure(a::defaults)),
    ("sup_start_map_faulty_specs", Pure(a::faulty_specs)),
    ("sup_stop_infinity", Pure(a::stop_all)),
    ("sup_stop_timeout", Pure(a::stop_all)),
    ("sup_stop_timeout_dynamic", Pure(a::stop_all_dynamic)),
    ("sup_stop_brutal_kill", Pure(a::stop_all)),
    ("sup_stop_brutal_kill_dynamic", Pure(a::stop_all_dynamic)),
    ("sup_stop_race", Pure(a::stop_race)),
    ("sup_stop_non_shutdown_exit_dynamic", Pure(a::stop_race)),
    ("child_adm", Pure(a::child_adm)),
    ("child_adm_simple", Pure(a::child_adm)),
    ("extra_return", Not(NO_EXTRA)),
    ("child_specs", Pure(a::faulty_specs)),
    ("child_specs_map", Pure(a::faulty_specs)),
    ("sup_flags", Pure(a::flags_are_checked)),
    ("multiple_restarts", Pure(c::multiple_restarts)),
    ("one_for_one", Pure(c::one_for_one)),
    ("one_for_one_escalation", Pure(c::one_for_one_escalation)),
    ("one_for_all", Pure(c::one_for_all)),
    ("one_for_all_escalation", Pure(c::one_for_all_escalation)),
    ("one_for_all_other_child_fails_restart", Pure(c::one_for_all_other_child_fails_restart)),
    ("simple_one_for_one", Pure(c::dynamic_one_for_one)),
    ("simple_one_for_one_shutdown", Pure(a::stop_all_dynamic)),
    ("simple_one_for_one_extra", Not(NO_EXTRA)),
    ("simple_one_for_one_escalation", Pure(c::one_for_one_escalation)),
    ("simple_one_for_one_corruption", Pure(c::temporary_children_are_forgotten)),
    ("simple_one_for_one_restart_ignore", Not(NO_IGNORE)),
    ("rest_for_one", Pure(c::rest_for_one)),
    ("rest_for_one_escalation", Pure(c::rest_for_one_escalation)),
    ("rest_for_one_other_child_fails_restart", Pure(c::rest_for_one_other_child_fails_restart)),
    ("external_start_no_progress_log", Not(NO_REPORTS)),
    ("permanent_normal", Pure(c::permanent)),
    ("transient_normal", Pure(c::transient_normal)),
    ("temporary_normal", Pure(c::temporary)),
    ("permanent_shutdown", Pure(c::permanent)),
    ("transient_shutdown", Pure(c::transient_normal)),
    ("temporary_shutdown", Pure(c::temporary)),
    ("faulty_application_shutdown", Pure(a::fail)),
    ("permanent_abnormal", Pure(c::permanent)),
    ("transient_abnormal", Pure(c::transient_abnormal)),
    ("temporary_abnormal", Pure(c::temporary)),
    ("child_unlink", Not("a process cannot hide from its pidfd")),
    ("tree", Pure(c::tree)),
    ("nonsignificant_temporary", Pure(s::nonsignificant_temporary)),
    ("nonsignificant_transient", Pure(s::nonsignificant_transient)),
    ("significant_temporary", Pure(s::significant_temporary)),
    ("significant_transient", Pure(s::significant_transient)),
    (
        "significant_simple",
        Not("it forbids a combination with `simple_one_for_one`, which is no strategy here"),
    ),
    ("significant_bystander", Pure(s::significant_bystander)),
    ("significant_escalation", Pure(s::significant_escalation)),
    ("significant_upgrade_never_any", Not(NO_UPGRADE)),
    ("significant_upgrade_any_never", Not(NO_UPGRADE)),
    ("significant_upgrade_never_all", Not(NO_UPGRADE)),
    ("significant_upgrade_all_never", Not(NO_UPGRADE)),
    ("significant_upgrade_any_all", Not(NO_UPGRADE)),
    ("significant_upgrade_all_any", Not(NO_UPGRADE)),
    ("significant_upgrade_child", Not(NO_UPGRADE)),
    ("count_children", Pure(c::count_children)),
    ("count_children_supervisor", Pure(c::count_children)),
    ("count_restarting_children", Pure(c::count_restarting_children)),
    ("get_callback_module", Not(NO_CALLBACK)),
    ("do_not_save_start_parameters_for_temporary_children", Pure(c::temporary_children_are_forgotten)),
    ("do_not_save_child_specs_for_temporary_children", Pure(c::which_specs_are_kept)),
    ("simple_one_for_one_scale_many_temporary_children", Pure(c::many_children)),
    ("temporary_bystander", Pure(c::temporary_bystander)),
    ("simple_global_supervisor", Pure(c::worker_below_a_worker)),
    ("hanging_restart_loop", Pure(c::hanging_restart_loop)),
    ("hanging_restart_loop_rest_for_one", Pure(c::hanging_restart_loop_rest_for_one)),
    ("hanging_restart_loop_simple", Pure(c::hanging_restart_loop)),
    ("code_change", Not(NO_UPGRADE)),
    ("code_change_map", Not(NO_UPGRADE)),
    ("code_change_simple", Not(NO_UPGRADE)),
    ("code_change_simple_map", Not(NO_UPGRADE)),
    ("order_of_children", Pure(c::order_of_children)),
    ("scale_start_stop_many_children", Pure(c::many_children)),
    ("format_log_1", Not(NO_REPORTS)),
    ("format_log_2", Not(NO_REPORTS)),
    (
        "already_started_outside_supervisor",
        Not("names are not registered: two processes may have the same one"),
    ),
    ("which_children", Pure(a::which_children)),
    ("which_children_simple_one_for_one", Pure(a::which_children)),
];

/// FE12.
#[test]
fn cases_of_otp_have_its_outcomes() {
    let mut ran = 0;
    for (name, case) in CASES {
        match case {
            Pure(run) => {
                println!("{name}");
                run();
                ran += 1;
            }
            Not(because) => println!("{name}: not applicable: {because}"),
        }
    }
    println!("{ran} of {} cases ran", CASES.len());
}

#[test]
fn no_case_is_listed_twice() {
    let names: std::collections::HashSet<_> = CASES.iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), CASES.len());
}
