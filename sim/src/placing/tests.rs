use super::*;

const NODES: &str = "sn,cpu_milli,memory_mib,gpu,model\na,8000,16384,2,T4\nb,8000,16384,2,A10\nc,8000,16384,0,\n";
const TASKS: &str = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec\n\
                     one,1000,1024,1,600,\ntwo,1000,1024,2,1000,A10\nthree,4000,1024,0,0,\nfour,1000,1024,1,500,T4\n";

fn options() -> PlaceOptions {
    PlaceOptions {
        nodes: ("n.csv".to_owned(), NODES.to_owned()),
        tasks: ("t.csv".to_owned(), TASKS.to_owned()),
        demand: None,
        strategy: Strategy::Apart,
        k: 8,
        in_flight: 1,
        departures: 0,
    }
}

#[test]
fn tasks_go_where_their_devices_are_and_others_leave_devices_alone() {
    let hosts = list::nodes("n", NODES).expect("nodes");
    let tasks = list::tasks("t", TASKS, Strategy::Apart).expect("tasks");
    let mix = Mix::of(tasks.specs.iter().map(|spec| (spec, 1)));
    let order = [1, 3, 2, 0];
    let offered: Vec<Task<'_>> = order.iter().map(|at| Task::new(&flock::stack(), *at, &tasks.specs[*at])).collect();
    let mut flock = Flock::new(&hosts, &mix, 8, &offered);
    flock.offer_all(1);
    assert_eq!(flock.hosts(), [Some(1), Some(0), Some(2), Some(0)]);
    assert_eq!(flock.overcommits(), 0);
}

#[test]
fn equal_seeds_have_equal_ends_whatever_is_in_flight_and_nobody_gives_more_than_there_is() {
    for (in_flight, departures) in [(1, 0), (3, 0), (100, 5)] {
        let options = PlaceOptions { in_flight, departures, demand: Some(150), ..options() };
        let mut twice = [(); 2].map(|()| place(&options, 1..=4).expect("they are lists"));
        twice.iter_mut().flatten().for_each(|run| run.decisions_per_s = 0.0);
        assert_eq!(twice[0], twice[1]);
        for run in &twice[0] {
            assert_eq!(run.overcommits, 0);
            assert!(run.moves <= run.moves_minimum && run.tasks_placed < run.tasks_offered, "{run:?}");
            assert!(run.demand_pct <= 150.0 && run.gpu_allocated_pct > 50.0, "{run:?}");
        }
    }
}

#[test]
fn decisions_on_one_view_are_refused_by_the_node_not_forced_on_it() {
    let tasks = format!("cpu_milli,memory_mib\n{}", "7000,1\n".repeat(3));
    let options = PlaceOptions { tasks: ("t".to_owned(), tasks), in_flight: 3, k: 1, ..options() };
    let runs = place(&options, 1..=20).expect("lists");
    assert!(runs.iter().all(|run| run.tasks_placed == 3 && run.overcommits == 0), "{runs:?}");
    assert!(runs.iter().any(|run| run.refusals > 0), "three tasks hashed to three nodes twenty times in a row");
}
