//! The file as a whole: keys that are refused or unknown, interpolation, anchors, order of problems.

use super::*;

#[test]
fn every_refused_key_is_refused_by_name_and_place() {
    let service = "annotations attach blkio_config build cap_add cap_drop cgroup cgroup_parent configs container_name \
        cpu_count cpu_percent cpu_period cpu_quota cpu_rt_period cpu_rt_runtime cpu_shares cpus cpuset credential_spec \
        depends_on develop device_cgroup_rules devices dns dns_opt dns_search domainname env_file expose extends \
        external_links extra_hosts gpus group_add hostname init ipc isolation label_file labels links logging mac_address \
        mem_limit mem_reservation mem_swappiness memswap_limit models network_mode networks oom_kill_disable oom_score_adj \
        pid pids_limit platform post_start pre_stop privileged profiles provider pull_policy pull_refresh_after read_only \
        runtime scale secrets security_opt shm_size stdin_open storage_opt sysctls tmpfs tty ulimits use_api_socket user \
        userns_mode uts volumes volumes_from";
    let below: &[(&str, &str)] = &[("deploy", "endpoint_mode labels")];
    for key in service.split_whitespace() {
        let text = wrap(&format!("image: i\n{key}: [a]"));
        let problems = read(&text).expect_err(key);
        let [problem] = problems.as_slice() else { panic!("{key}: {problems:?}") };
        assert_eq!((problem.line, problem.column, problem.key.as_str()), (4, 5, format!("services.s.{key}").as_str()));
        assert!(!problem.what.contains("has no key"), "{key} is a key of Compose: {problem}");
    }
    for (path, keys) in below {
        for key in keys.split_whitespace() {
            let depth = path.split('.').count();
            let outer: String = path.split('.').enumerate().map(|(i, p)| format!("{}{p}:\n", "  ".repeat(i))).collect();
            let body = format!("image: i\n{outer}{}{key}: 1", "  ".repeat(depth));
            let found = problems(&wrap(&body));
            let place = format!("{}:{}: services.s.{path}.{key}: ", 4 + depth, 5 + 2 * depth);
            assert!(found.starts_with(&place) && !found.contains("has no key"), "{place} {found}");
        }
    }
    for key in ["configs", "include", "models", "networks", "secrets", "volumes"] {
        let found = problems(&format!("services: {{s: {{image: i}}}}\n{key}: {{a: }}\n"));
        assert!(found.starts_with(&format!("2:1: {key}: ")) && !found.contains("has no key"), "{found}");
    }
}

#[test]
fn unknown_keys_get_a_suggestion() {
    for (key, near) in [("comand", "command"), ("enviroment", "environment"), ("prots", "ports"), ("Image", "image")] {
        let problems = read(&wrap(&format!("image: i\n{key}: a"))).expect_err(key);
        assert_eq!(problems[0].what, format!("a service has no key '{key}'"));
        assert_eq!(problems[0].remedy, format!("did you mean '{near}'?"));
    }
    assert_eq!(read("servces: {}").expect_err("typo")[0].remedy, "did you mean 'services'?");
    good("x-anything: {volumes: 1}\nservices: {s: {image: i, x-mine: [1], deploy: {x-too: 1}}}\n");
    check_text(
        "x-dunlin: {wave: 1}\nservices: {s: {image: i}}",
        &["1:12: x-dunlin.wave: 'x-dunlin' of a file has no key 'wave'"],
    );
    check(&[("deploy: {x-dunlin: {}}", &["4:14: services.s.deploy.x-dunlin: 'x-dunlin' means nothing"])]);
    assert_eq!(good(&wrap("image: i\nx-dulin: {}")).warnings[0].remedy, "did you mean 'x-dunlin'?");
}

#[test]
fn the_document() {
    check_text("", &["1:1: (document): the file is empty"]);
    check_text("# nothing\n", &["1:1: (document): the file is empty"]);
    check_text("- a\n", &["1:1: (document): expected a mapping, found a list"]);
    check_text("name: x\n", &["1:1: services: the file has no services"]);
    check_text("services: {}\n", &["1:11: services: the file has no services"]);
    check_text("services: [a]\n", &["1:11: services: expected a mapping, found a list"]);
    check_text("services: {s: {image: i}}\n---\nservices: {}\n", &["2:1: (document): a second YAML document"]);
    check_text("a: b: c\n", &["1:5: (document): this is not valid YAML"]);
    check_text("services:\n  s:\n    image: \"i\n", &["3:12: services.s.image: this is not valid YAML"]);
    check_text("services:\n  s:\n\timage: i\n", &["3:2: services.s: this is not valid YAML"]);
    check_text("services: *gone\n", &["1:11: services: this is not valid YAML"]);
    check_text("? [a]\n: b\n", &["1:3: (document): a key must be a text"]);
    check_text("services:\n  s: !reset\n    image: i\n", &["3:5: services.s: the YAML tag !reset is not supported"]);
    check_text(
        "services:\n  s:\n    image: a\n    image: b\n",
        &["4:5: services.s.image: the key 'image' is given twice, first at 3:5"],
    );
    let of = |name: &str| format!("services:\n  {name}: {{image: i}}\n");
    check_text(&of("a.b"), &["2:3: services.a.b: \"a.b\" cannot be a name in DNS"]);
    check_text(&of("node"), &["2:3: services.node: \"node\" is reserved"]);
    check_text(&of("17"), &["2:3: services.17: \"17\" is reserved"]);
    check_text(&of("-a"), &["2:3: services.-a: \"-a\" is no name: "]);
    check_text("services:\n  a: {image: i}\n  A: {image: i}\n", &["3:3: services.A: two services differ only in case"]);
    check_text("name: a b\nservices: {s: {image: i}}\n", &["1:7: name: \"a b\" is no name"]);
    assert_eq!(good("name: ${NAME:-shop}\nservices: {s: {image: i}}\n").name.expect("a name").as_str(), "shop");
}

#[test]
fn all_problems_come_sorted() {
    let text =
        "services:\n  b:\n    volumes: []\n    image: 5\n  a:\n    restart: x\n    privileged: true\nvolumes: {}\n";
    check_text(
        text,
        &[
            "3:5: services.b.volumes",
            "4:12: services.b.image",
            "5:3: services.a: the",
            "6:14: services.a.restart",
            "7:5: services.a.privileged",
            "8:1: volumes",
        ],
    );
    let problem = &read(text).expect_err("refused")[1];
    assert_eq!(
        problem.to_string(),
        "f:4:12: services.b.image: expected a text, found the number 5; put it in quotes: \"5\""
    );
}

#[test]
fn interpolation_has_a_place() {
    check_text(
        &wrap("image: ${NO}"),
        &["3:12: services.s.image: \"\" is no reference of an image (the variable NO is not set and counts as empty)"],
    );
    check(&[
        (
            "environment: {A: '${NO:?give it}'}",
            &["4:22: services.s.environment.A: the required variable NO is not set: give it"],
        ),
        ("command: [a, $]", &["4:18: services.s.command[1]: '$' is not followed by a variable's name"]),
        ("working_dir: ${A", &["4:18: services.s.working_dir: \"${A\" is no expression"]),
    ]);
    let project = good(&wrap("image: 'nginx:${TAG}${NO}'"));
    assert_eq!(project.warnings.len(), 1);
    assert_eq!(project.warnings[0].what, "the variable NO is not set and counts as empty");
    let Workload::Docker(image) = &project.services.values().next().expect("one").spec.workload else { panic!() };
    assert_eq!(image.image, "nginx:1.29");
}

#[test]
fn anchors_and_merges() {
    let text = "x-base: &base\n  image: i\n  restart: always\nx-env: &env {A: 1, B: 2}\nservices:\n  s:\n    <<: *base\n    \
        restart: 'no'\n    environment: {<<: *env, B: 3}\n  t:\n    <<: [*base, {image: j, command: c}]\n";
    let project = good(text);
    let by_name: BTreeMap<&str, &Service> = project.services.iter().map(|(k, v)| (k.as_str(), v)).collect();
    assert_eq!(by_name["s"].spec.restart.condition, RestartCondition::None);
    assert_eq!((by_name["s"].spec.environment["A"].as_str(), by_name["s"].spec.environment["B"].as_str()), ("1", "3"));
    assert!(
        matches!(&by_name["t"].spec.workload, Workload::Docker(i) if i.image == "i" && argv(by_name["t"]) == ["c"])
    );
    let wrong = "x-b: &b\n  image: i\n  tty: true\nservices:\n  s: *b\n  t: *b\n";
    check_text(wrong, &["3:3: services.s.tty: a replica has no terminal"]);
    check_text("services:\n  s:\n    <<: 5\n    image: i\n", &["3:5: services.s: '<<' merges mappings"]);
    check_text("services: &a\n  s: *a\n", &["2:6: services.s: an alias is used inside its own anchor"]);
}

#[test]
fn bombs_are_refused_not_unfolded() {
    let mut laughs = String::from("a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]\n");
    for i in 1..30 {
        let many = vec![format!("*a{}", i - 1); 10].join(", ");
        laughs.push_str(&format!("a{i}: &a{i} [{many}]\n"));
    }
    assert!(problems(&laughs).contains("the file holds more than 100000 values"));
    let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(900_000), vec!["*a"; 1_000].join(", "));
    assert!(problems(&long).contains("the values of the file have more than"));
    let deep = format!("a: {}{}\n", "[".repeat(100), "]".repeat(100));
    assert!(problems(&deep).contains("values are nested more than 64 deep"));
    let deep_block = "- ".repeat(5_000) + "x\n";
    assert!(problems(&deep_block).contains("values are nested more than 64 deep"));
    assert!(problems(&"#".repeat((1 << 20) + 1)).contains("the file has 1048577 bytes"));
    assert!(problems(&format!("{}: 1\n", "k".repeat(300))).contains("a key has more than 256 bytes"));
    let big = wrap(&format!("image: i\nenvironment: {{A: '{}'}}", "x".repeat(200_000)));
    assert!(problems(&big).starts_with("2:3: services.s: the texts of this service have"));
}

#[test]
fn waves_say_how_many_nodes_act_first_and_for_how_long_all_stays_well() {
    let of = |waves: &str| good(&format!("x-dunlin: {{waves: {{{waves}}}}}\nservices: {{s: {{image: i}}}}\n")).waves;
    let seconds = Duration::from_secs;
    assert_eq!(good("services: {s: {image: i}}").waves, None);
    assert_eq!(of("first: 3"), Some(Waves { first: Share::Nodes(3), wait: seconds(30) }));
    assert_eq!(of("first: 5%, wait: 2m"), Some(Waves { first: Share::Percent(5), wait: seconds(120) }));
    for (waves, problem) in [
        ("wait: 30s", "1:19: x-dunlin.waves: waves without 'first'"),
        ("first: 0", "1:27: x-dunlin.waves.first: expected a number of nodes or a share"),
        ("first: 100%", "1:27: x-dunlin.waves.first: expected a number of nodes or a share"),
        ("first: 257", "1:27: x-dunlin.waves.first: expected a number of nodes or a share"),
        ("first: 1, wait: 30", "1:36: x-dunlin.waves.wait: expected a duration"),
        ("first: 1, wait: 25h", "1:36: x-dunlin.waves.wait: the wait is longer than a day"),
        ("first: 1, than: 1s", "1:30: x-dunlin.waves.than: 'waves' has no key 'than'"),
    ] {
        check_text(&format!("x-dunlin: {{waves: {{{waves}}}}}\nservices: {{s: {{image: i}}}}"), &[problem]);
    }
}
