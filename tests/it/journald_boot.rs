//! A machine that is rebooted: logferry runs in it as a service and ships its journal; what of the previous boot had not been shipped is shipped in
//! the next one. In a container, with systemd 252 and 257.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use serde_json::Value;

use crate::harness::broker::Broker;
use crate::harness::container::Container;
use crate::harness::topic::{Isolation, records};
use crate::harness::wait_until;
use crate::journald::{arrived, plan};

const LATE: Duration = Duration::from_secs(60);

const UNIT: &str = "[Unit]\nDescription=logferry\n[Service]\nExecStart=/usr/local/bin/logferry run --config /etc/logferry.toml\n\
    StateDirectory=logferry\n[Install]\nWantedBy=multi-user.target\n";

/// A system in which logferry is a service that starts at boot.
fn with_logferry(suite: &str, broker: &Broker, topic: &str) -> Container {
    let container = Container::of(suite);
    fs::copy(env!("CARGO_BIN_EXE_logferry"), container.path("usr/local/bin/logferry")).expect("copy the binary");
    let state = std::path::Path::new("/var/lib/logferry");
    let config = plan(&broker.bootstrap(), topic, "start_at = \"beginning\"\n").config(state);
    fs::write(container.path("etc/logferry.toml"), config).expect("write the configuration");
    fs::write(container.path("etc/systemd/system/logferry.service"), UNIT).expect("write the unit");
    let wants = container.path("etc/systemd/system/multi-user.target.wants");
    fs::create_dir_all(&wants).expect("make a folder");
    symlink("/etc/systemd/system/logferry.service", wants.join("logferry.service")).expect("enable the unit");
    container
}

#[test]
#[ignore = "needs systems that boot: make test-boot"]
fn what_the_previous_boot_left_unshipped_is_shipped_in_the_next() {
    let broker = Broker::shared();
    for suite in ["bookworm", "trixie"] {
        let topic = format!("journal-boot-{suite}");
        broker.create_topic(&topic, 1, &[]);
        let mut container = with_logferry(suite, broker, &topic);
        container.boot();
        let mut sender = container.sender();
        (1..=100).for_each(|number| sender.number(number));
        wait_until("what is sent in the first boot", LATE, || arrived(broker, &topic).numbers.len() == 100);

        let stopped = container.run(&["systemctl", "stop", "logferry"]);
        assert!(stopped.status.success(), "{}", String::from_utf8_lossy(&stopped.stderr));
        (101..=600).for_each(|number| sender.number(number));
        container.run(&["journalctl", "--sync"]);
        assert_eq!(arrived(broker, &topic).numbers.len(), 100);
        container.shut_down();

        container.boot();
        let mut sender = container.sender();
        (601..=650).for_each(|number| sender.number(number));
        wait_until("what both boots have left", LATE, || arrived(broker, &topic).numbers.contains(&650));
        let found = arrived(broker, &topic);
        assert_eq!(found.numbers, (1..=650).collect::<Vec<_>>(), "{suite}");
        assert_eq!((found.doubled(), found.told), (0, Vec::new()), "{suite}");
        let boots: BTreeSet<String> = records(&broker.bootstrap(), &topic, Isolation::ReadUncommitted)
            .iter()
            .map(|record| serde_json::from_slice::<Value>(&record.value).unwrap()["boot_id"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(boots.len(), 2, "{suite}: {boots:?}");
        container.shut_down();
    }
}
