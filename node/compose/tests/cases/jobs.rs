//! What runs to completion, once or by the calendar, and how each key of it is refused.

use super::*;

#[test]
fn jobs() {
    let job = |body: &str| image(body).mode;
    let plain = Job::default();
    assert_eq!(job("deploy: {mode: replicated-job}"), Mode::Job(plain));
    assert_eq!(job("deploy: {mode: global-job}"), Mode::GlobalJob(plain));
    assert_eq!(
        job(
            "deploy: {mode: replicated-job, replicas: 9}\nx-dunlin: {job: {parallelism: 2, backoff_limit: 1, timeout: 1m}}"
        ),
        Mode::Job(Job {
            completions: 9,
            parallelism: 2,
            backoff_limit: 1,
            timeout: Some(Duration::from_secs(60)),
            ..plain
        })
    );
    let limit = |body: &str| job(body).job().map(|job| job.backoff_limit);
    assert_eq!(limit("deploy: {mode: replicated-job, restart_policy: {condition: none}}"), Some(0));
    assert_eq!(limit("deploy: {mode: replicated-job, restart_policy: {max_attempts: 3}}"), Some(3));
    assert_eq!(limit("restart: 'no'\ndeploy: {mode: replicated-job}"), Some(0));
    let restart = image("deploy: {mode: replicated-job, restart_policy: {max_attempts: 3}}").spec.restart;
    assert_eq!((restart.condition, restart.max_attempts), (RestartCondition::OnFailure, None));
    check(&[
        (
            "deploy: {mode: global-job, replicas: 2}",
            &["4:42: services.s.deploy.replicas: a global-job service runs once"],
        ),
        ("x-dunlin: {job: {parallelism: 2}}", &["4:21: services.s.x-dunlin.job: 'job' means nothing"]),
        (
            "deploy: {mode: global-job}\nx-dunlin: {job: {parallelism: 2}}",
            &["5:35: services.s.x-dunlin.job.parallelism: the slots of a global job"],
        ),
        (
            "deploy: {mode: replicated-job, restart_policy: {condition: any}}",
            &["4:64: services.s.deploy.restart_policy.condition: a job is not run again"],
        ),
        ("restart: always\ndeploy: {mode: replicated-job}", &["4:14: services.s.restart: a job is not run again"]),
        (
            "deploy: {mode: replicated-job, update_config: {parallelism: 2}}",
            &["4:51: services.s.deploy.update_config: a job has no rollouts"],
        ),
        (
            "deploy: {mode: replicated-job, restart_policy: {max_attempts: 3}}\nx-dunlin: {job: {backoff_limit: 2}}",
            &["5:37: services.s.x-dunlin.job.backoff_limit: the restart policy says"],
        ),
        (
            "deploy: {mode: replicated-job}\nx-dunlin: {job: {timeout: 0s, retries: 1}}",
            &[
                "5:31: services.s.x-dunlin.job.timeout: the duration",
                "5:35: services.s.x-dunlin.job.retries: 'x-dunlin.job' has no key",
            ],
        ),
    ]);
}

#[test]
fn schedules() {
    let cron = |body: &str| *image(body).mode.cron().expect(body);
    let daily = cron("x-dunlin: {schedule: '@daily'}");
    assert_eq!((daily.calendar.to_string(), daily.zone), ("0 0 * * *".to_string(), ZoneName::UTC));
    assert_eq!(
        (daily.overlap, daily.missed, daily.deadline, daily.history),
        (Overlap::Allow, Missed::RunOnce, None, 5)
    );
    assert_eq!((daily.job.completions, daily.job.backoff_limit), (1, 6));
    let all = cron(
        "deploy: {mode: replicated-job, replicas: 3}\nx-dunlin:\n  job: {parallelism: 1}\n  schedule:\n    cron: 30 3 * * mon-fri\n    \
         timezone: europe/berlin\n    overlap: forbid\n    missed: skip\n    deadline: 10m\n    history: 20",
    );
    assert_eq!((all.calendar.to_string().as_str(), all.zone.as_str()), ("30 3 * * 1-5", "Europe/Berlin"));
    assert_eq!((all.overlap, all.missed, all.history), (Overlap::Forbid, Missed::Skip, 20));
    assert_eq!((all.deadline, all.job.completions, all.job.parallelism), (Some(Duration::from_secs(600)), 3, 1));
    let restart = image("x-dunlin: {schedule: '@daily'}").spec.restart;
    assert_eq!(restart.condition, RestartCondition::OnFailure);
    assert_eq!(cron("x-dunlin: {schedule: '@daily'}\ndeploy: {replicas: 0}").job.completions, 0, "suspended");
    check(&[
        (
            "x-dunlin: {schedule: '0 0 30 2 *'}",
            &[
                "4:26: services.s.x-dunlin.schedule: \"0 0 30 2 *\": this never comes due: none of these months has such a day",
            ],
        ),
        (
            "x-dunlin: {schedule: '0 24 * * *'}",
            &["4:26: services.s.x-dunlin.schedule: \"0 24 * * *\": hour: '24' is no hour"],
        ),
        ("x-dunlin: {schedule: {timezone: UTC}}", &["4:26: services.s.x-dunlin.schedule: a schedule without 'cron'"]),
        (
            "x-dunlin: {schedule: {cron: '@daily', timezone: Europe/Atlantis}}",
            &["4:53: services.s.x-dunlin.schedule.timezone: there is no time zone \"Europe/Atlantis\""],
        ),
        (
            "x-dunlin: {schedule: {cron: '@daily', overlap: queue, missed: all, history: 0}}",
            &[
                "4:52: services.s.x-dunlin.schedule.overlap: \"queue\" is no choice for overlaps",
                "4:67: services.s.x-dunlin.schedule.missed: \"all\" is no choice for missed runs",
                "4:81: services.s.x-dunlin.schedule.history: ",
            ],
        ),
        (
            "deploy: {mode: global-job}\nx-dunlin: {schedule: '@daily'}",
            &["4:20: services.s.deploy.mode: what is scheduled runs in so many slots"],
        ),
        (
            "deploy: {mode: replicated}\nx-dunlin: {schedule: '@daily'}",
            &["4:20: services.s.deploy.mode: what is scheduled ends, and \"replicated\" does not"],
        ),
        (
            "restart: always\nx-dunlin: {schedule: '@daily'}",
            &["4:14: services.s.restart: a job is not run again once it has finished"],
        ),
        (
            "x-dunlin: {schedule: {cron: '@daily', suspend: true}}",
            &["4:43: services.s.x-dunlin.schedule.suspend: 'x-dunlin.schedule' has no key"],
        ),
    ]);
}
