//! What an image says, and images that are not there.

use std::net::TcpListener;
use std::time::Duration;

use dunlin_core::face::{Exit, StartFailure};
use dunlin_gossip::model::{Image, Workload};
use dunlin_test_host::engine::docker;

use crate::host::{Host, PATIENCE, image};
use crate::registry::Registry;

fn words(list: &[&str]) -> Option<Vec<String>> {
    Some(list.iter().map(|word| (*word).to_owned()).collect())
}

#[tokio::test]
async fn entrypoint_and_command_mean_what_they_mean_in_docker() {
    let changes = ["ENTRYPOINT [\"/bin/echo\", \"entry\"]", "CMD [\"cmd\"]", "WORKDIR /bin", "ENV GREETING=image"];
    let Some(image) = image("entrypoint_and_command_mean_what_they_mean_in_docker", &changes) else { return };
    let mut host = Host::new().await;
    let cases = [
        (None, None, "entry cmd\n"),
        (None, words(&["mine"]), "entry mine\n"),
        // An entrypoint of one's own leaves the image's command out.
        (words(&["/bin/echo", "own"]), None, "own\n"),
        (words(&["/bin/echo", "own"]), words(&["mine"]), "own mine\n"),
        // An empty one clears the image's.
        (words(&[]), words(&["/bin/echo", "bare"]), "bare\n"),
        (words(&[]), words(&["/bin/sh", "-c", "pwd; echo $GREETING"]), "/bin\nhello\n"),
    ];
    for (attempt, (entrypoint, command, said)) in (1..).zip(cases) {
        let mut spec = host.spec(attempt, &image.name, "");
        let name = image.name.clone();
        spec.workload = Workload::Docker(Image { image: name, entrypoint, command, working_dir: None });
        host.run(spec).await;
        assert_eq!(host.exit(attempt).await, Exit::Code(0));
        let log = host.log(None).await;
        assert!(log.ends_with(said), "case {attempt}: {log:?}");
    }
}

#[tokio::test]
async fn what_cannot_start_says_why_and_leaves_nothing() {
    let Some(image) = image("what_cannot_start_says_why_and_leaves_nothing", &[]) else { return };
    let mut host = Host::new().await;
    let mut no_program = host.spec(1, &image.name, "");
    no_program.workload = Workload::Docker(Image {
        image: image.name.clone(),
        entrypoint: None,
        command: words(&["/no-such-program"]),
        working_dir: None,
    });
    // Port 9 of a loopback address: nobody serves images there.
    let no_image = host.spec(2, "127.0.0.1:9/dunlin-test/none:1", "");
    let bad_name = host.spec(3, "Not A Name", "");
    let cases = [
        (no_program, "no-such-program"),
        (no_image, "image 127.0.0.1:9/dunlin-test/none:1 is not on this node and could not be pulled"),
        (bad_name, "refused: invalid reference"),
    ];
    for (spec, text) in cases {
        host.start(spec);
        match host.failure().await {
            StartFailure::Other(said) => assert!(said.contains(text), "{said}"),
            other => panic!("{other:?}"),
        }
        assert_eq!(host.containers(), [""; 0]);
    }
    host.run(host.spec(4, &image.name, "exit 0")).await;
    assert_eq!(host.exit(4).await, Exit::Code(0));
}

#[tokio::test]
async fn a_missing_image_is_pulled() {
    let test = "a_missing_image_is_pulled";
    let Some(_engine) = image(test, &[]) else { return };
    let registry = Registry::serve();
    let mut host = Host::new().await;
    let name = format!("{}/dunlin-test/pulled:1", registry.address);
    assert!(docker(&["image", "inspect", &name]).is_err());
    host.run(host.spec(1, &name, "echo pulled")).await;
    assert_eq!(host.exit(1).await, Exit::Code(0));
    assert_eq!(host.log(None).await, "pulled\n");
    host.forget();
    host.no_containers().await;
    docker(&["rmi", &name]).unwrap();
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_pull() {
    let Some(_engine) = image("a_stop_does_not_wait_for_a_pull", &[]) else { return };
    // A registry that takes every connection and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let name = format!("{}/dunlin-test/silent:1", silent.local_addr().unwrap());
    let mut host = Host::new().await;
    host.start(host.spec(1, &name, ""));
    let connected = tokio::task::spawn_blocking(move || silent.accept().map(|(stream, _)| (stream, silent)));
    let _open = tokio::time::timeout(PATIENCE, connected).await.expect("nobody pulls").unwrap().unwrap();
    host.start(host.spec(1, &name, ""));
    host.stop("SIGTERM", Duration::from_secs(3600));
    assert_eq!(host.exit(1).await, Exit::Lost);
    host.forget();
    host.no_containers().await;
}
