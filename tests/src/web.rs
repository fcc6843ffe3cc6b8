//! The service that most tests deploy: `dunlin hello` under the name `web`, with a health check, on ports that nodes choose.

/// Its Compose file; `${DUNLIN}` becomes the binary's path when it is deployed.
#[must_use]
pub fn compose(replicas: usize) -> String {
    format!(
        "services:
  web:
    command: ${{DUNLIN}} hello
    ports: [{{target: 8080, name: http}}]
    stop_grace_period: 2s
    deploy:
      replicas: {replicas}
      resources: {{reservations: {{cpus: '0.05', memory: 8M}}}}
    x-dunlin:
      healthcheck:
        http: {{port: http, path: /health}}
        interval: 500ms
"
    )
}
