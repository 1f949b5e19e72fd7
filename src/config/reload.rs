//! What becomes of a running daemon under another configuration: what goes on untouched, what is begun, what ends, and what only a restart changes.
//! Pure.

use std::sync::Arc;

use super::Config;
use crate::source::{file, journald, syslog};

/// What becomes of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It goes on.
    Keep,
    /// It is new.
    Start,
    /// The configuration has it no more.
    Stop,
    /// It ends, and begins anew where it ended.
    Change,
}

/// See the module.
#[derive(Debug)]
pub struct Plan {
    /// The new configuration, with the old values of what needs a restart.
    pub config: Config,
    /// Every source of both.
    pub sources: Vec<(Arc<str>, Step)>,
    /// Sources that go on get other rules.
    pub rules: bool,
    /// Clients of Kafka are to be made anew.
    pub kafka: bool,
    /// Keys whose new value holds only after a restart.
    pub restart: Vec<&'static str>,
}

/// The settings of one source.
#[derive(PartialEq)]
enum Source<'a> {
    File(&'a file::Settings),
    Syslog(&'a syslog::Settings),
    Journal(&'a journald::Settings),
}

impl<'a> Source<'a> {
    fn of(config: &'a Config, name: &str) -> Option<Source<'a>> {
        let file = config.files.iter().find(|source| *source.name == *name).map(Source::File);
        let syslog = || config.syslogs.iter().find(|source| *source.name == *name).map(Source::Syslog);
        let journal = || config.journals.iter().find(|source| *source.name == *name).map(Source::Journal);
        file.or_else(syslog).or_else(journal)
    }
}

/// Compares the configuration that holds with the one that is to.
#[must_use]
pub fn plan(old: &Config, mut new: Config) -> Plan {
    let restart = hold(old, &mut new);
    let stamp = old.stamp != new.stamp;
    if !stamp {
        new.stamp.clone_from(&old.stamp);
    }
    let rules = old.rules.len() != new.rules.len() || !old.rules.iter().zip(&*new.rules).all(|(old, new)| old.is_like(new));
    if !rules {
        // What they have done goes on being counted.
        new.rules = Arc::clone(&old.rules);
    }
    // What reaches every source.
    let common = old.encode == new.encode && old.agent.forget_after == new.agent.forget_after;
    let gone = old.named.iter().filter(|source| Source::of(&new, &source.name).is_none());
    let mut sources: Vec<_> = gone.map(|source| (Arc::clone(&source.name), Step::Stop)).collect();
    for source in &new.named {
        let step = match (Source::of(old, &source.name), Source::of(&new, &source.name)) {
            (None, _) => Step::Start,
            (before, now) if before == now && common => Step::Keep,
            _ => Step::Change,
        };
        sources.push((Arc::clone(&source.name), step));
    }
    Plan { kafka: old.kafka != new.kafka, sources, rules: rules || stamp, restart, config: new }
}

/// Gives what needs a restart its old value; returns the keys whose new one differs.
fn hold(old: &Config, new: &mut Config) -> Vec<&'static str> {
    let mut keys = Vec::new();
    keep(&mut keys, "agent.host", &old.agent.host, &mut new.agent.host);
    new.encode.host = Arc::clone(&old.encode.host);
    keep(&mut keys, "agent.id", &old.agent.id, &mut new.agent.id);
    keep(&mut keys, "agent.state_dir", &old.agent.state_dir, &mut new.agent.state_dir);
    new.spill.dir.clone_from(&old.spill.dir);
    new.dead_letters.dir.clone_from(&old.dead_letters.dir);
    keep(&mut keys, "agent.snapshot_interval", &old.agent.snapshot_interval, &mut new.agent.snapshot_interval);
    keep(&mut keys, "agent.hold_deleted", &old.agent.hold_deleted, &mut new.agent.hold_deleted);
    keep(&mut keys, "kafka.gap_topic", &old.gap_topic, &mut new.gap_topic);
    keep(&mut keys, "kafka.dead_letter_topic", &old.dead_letters.topic, &mut new.dead_letters.topic);
    keep(&mut keys, "spill.max_size", &old.spill.max_size, &mut new.spill.max_size);
    keep(&mut keys, "spill.keep_free", &old.spill.keep_free, &mut new.spill.keep_free);
    new.dead_letters.keep_free = old.dead_letters.keep_free;
    keep(&mut keys, "spill.after", &old.spill.after, &mut new.spill.after);
    keep(&mut keys, "spill.sync", &old.spill.sync, &mut new.spill.sync);
    keep(&mut keys, "http.listen", &old.http, &mut new.http);
    keys
}

fn keep<T: Clone + PartialEq>(keys: &mut Vec<&'static str>, key: &'static str, old: &T, new: &mut T) {
    if old != new {
        new.clone_from(old);
        keys.push(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::{judge, machine};

    const HEAD: &str = "[agent]\nlabels = { site = \"a\" }\n[kafka]\nbootstrap_servers = \"localhost:9092\"\ntopic = \"logs\"\n";
    const A: &str = "[[source]]\nname = \"a\"\ntype = \"file\"\ninclude = [\"/var/log/a/*.log\"]\n";
    const B: &str = "[[source]]\nname = \"b\"\ntype = \"syslog\"\nlisten = [\"udp://127.0.0.1:5514\"]\n";
    const RULE: &str = "[[rule]]\nname = \"noise\"\nwhen = { source = \"a\", message = \"healthz\" }\ndrop = true\n";

    fn config(text: &str) -> Config {
        judge(&[text], &machine()).unwrap()
    }

    fn between(old: &str, new: &str) -> Plan {
        plan(&config(old), config(new))
    }

    fn steps(plan: &Plan) -> Vec<(&str, Step)> {
        plan.sources.iter().map(|(name, step)| (&**name, *step)).collect()
    }

    #[test]
    fn what_says_the_same_goes_on_wherever_it_stands() {
        let old = format!("{HEAD}{A}{B}{RULE}");
        let plan = between(&old, &format!("# a comment\n\n{HEAD}{RULE}{B}{A}"));
        assert_eq!(steps(&plan), [("b", Step::Keep), ("a", Step::Keep)]);
        assert!(!plan.rules && !plan.kafka && plan.restart.is_empty(), "{plan:?}");
    }

    #[test]
    fn only_sources_that_are_new_gone_or_different_are_touched() {
        let other = A.replace("/a/", "/b/");
        assert_eq!(steps(&between(&format!("{HEAD}{A}"), &format!("{HEAD}{A}{B}"))), [("a", Step::Keep), ("b", Step::Start)]);
        assert_eq!(steps(&between(&format!("{HEAD}{A}{B}"), &format!("{HEAD}{A}"))), [("b", Step::Stop), ("a", Step::Keep)]);
        assert_eq!(steps(&between(&format!("{HEAD}{A}{B}"), &format!("{HEAD}{other}{B}"))), [("a", Step::Change), ("b", Step::Keep)]);
        let syslog = B.replace("\"b\"", "\"a\"");
        assert_eq!(steps(&between(&format!("{HEAD}{A}"), &format!("{HEAD}{syslog}"))), [("a", Step::Change)], "another type");
    }

    #[test]
    fn a_topic_and_what_is_in_every_message_reach_the_sources() {
        let old = format!("{HEAD}{A}{B}topic = \"net\"\n");
        assert_eq!(steps(&between(&old, &old.replace("\"logs\"", "\"more\""))), [("a", Step::Change), ("b", Step::Keep)]);
        assert_eq!(steps(&between(&old, &old.replace("site = \"a\"", "site = \"b\""))), [("a", Step::Change), ("b", Step::Change)]);
        let memory = old.replace("[agent]", "[agent]\nmemory = \"300MiB\"\nstop_timeout = \"3s\"");
        let plan = between(&old, &memory);
        assert_eq!(steps(&plan), [("a", Step::Keep), ("b", Step::Keep)], "limits change under the sources");
        assert_eq!((plan.config.agent.memory, plan.restart.len()), (300 << 20, 0));
    }

    #[test]
    fn other_rules_stop_no_source() {
        let old = format!("{HEAD}{A}{RULE}");
        for new in
            [format!("{HEAD}{A}"), old.replace("healthz", "ping"), old.replace("drop = true", "keep = true"), old.replace("noise", "n")]
        {
            let plan = between(&old, &new);
            assert_eq!((steps(&plan), plan.rules), (vec![("a", Step::Keep)], true), "{new}");
        }
    }

    #[test]
    fn what_needs_a_restart_is_named_and_stays_as_it_was() {
        let old = format!("{HEAD}{A}");
        let new = old.replace("[agent]", "[agent]\nstate_dir = \"/elsewhere\"\nhost = \"other\"\nid = \"other\"");
        let plan = plan(&config(&old), config(&format!("{new}[spill]\nafter = \"9s\"\n")));
        assert_eq!(plan.restart, ["agent.host", "agent.id", "agent.state_dir", "spill.after"]);
        assert_eq!(steps(&plan), [("a", Step::Keep)]);
        let before = config(&old);
        assert_eq!((plan.config.spill, plan.config.agent.state_dir), (before.spill, before.agent.state_dir));
        assert_eq!(plan.config.encode, before.encode);
    }

    #[test]
    fn other_settings_of_the_client_make_it_anew() {
        let old = format!("{HEAD}{A}");
        let plan = between(&old, &old.replace("localhost:9092", "localhost:9093"));
        assert_eq!((steps(&plan), plan.kafka), (vec![("a", Step::Keep)], true));
    }
}
