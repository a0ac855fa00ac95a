//! The configuration that the demo's gateway runs with: `conf/demo.yaml`, on the ports that were free.

/// The file as it is shipped.
const TEMPLATE: &str = include_str!("../../conf/demo.yaml");

/// The ports of the demo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// Where the gateway listens.
    pub gateway: u16,
    /// Where the backend listens.
    pub backend: u16,
    /// Where metrics and health are served.
    pub admin: u16,
}

impl Ports {
    /// What the shipped file says.
    pub const WANTED: Ports = Ports { gateway: 8881, backend: 50051, admin: 9901 };
}

/// The gateway's configuration with these ports.
#[must_use]
pub fn yaml(ports: Ports) -> String {
    TEMPLATE.lines().map(|line| with_port(line, ports) + "\n").collect()
}

/// The comment behind a port of the file says whose it is.
fn with_port(line: &str, ports: Ports) -> String {
    let Some((before, owner)) = line.split_once("port: ").and_then(|(before, rest)| {
        let (_, owner) = rest.split_once(" # ")?;
        Some((before, owner))
    }) else {
        return line.to_owned();
    };
    let port = match owner {
        "gateway" => ports.gateway,
        "backend" => ports.backend,
        "admin" => ports.admin,
        _ => return line.to_owned(),
    };
    format!("{before}port: {port} # {owner}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wanted_ports_give_the_file_as_it_is() {
        assert_eq!(yaml(Ports::WANTED), TEMPLATE);
    }

    #[test]
    fn other_ports_stand_where_the_wanted_ones_stood() {
        let yaml = yaml(Ports { gateway: 1, backend: 2, admin: 3 });
        for line in ["port: 1 # gateway", "port: 2 # backend", "port: 3 # admin"] {
            assert_eq!(yaml.matches(line).count(), 1, "{line}:\n{yaml}");
        }
    }
}
