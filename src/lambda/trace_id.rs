//! The name of X-Ray's trace, for the log.

/// The trace's id out of a tracing header, `Root=1-5759e988-bd862e3fe1be46a994272793;Parent=…;Sampled=1` (AWS X-Ray
/// developer guide, "Tracing header"). Clients may send such a header with a request, so what is no id is `None`.
pub(super) fn trace_id(header: &str) -> Option<&str> {
    header.split(';').find_map(|part| part.trim().strip_prefix("Root=")).filter(|id| is_trace_id(id))
}

/// A version, which is 1, the time in 8 hexadecimal digits, and 24 more at random.
fn is_trace_id(text: &str) -> bool {
    let is_hex = |part: Option<&str>, digits: usize| {
        part.is_some_and(|part| part.len() == digits && part.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    let mut parts = text.split('-');
    parts.next() == Some("1") && is_hex(parts.next(), 8) && is_hex(parts.next(), 24) && parts.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_the_root_of_the_header() {
        let id = "1-5759e988-bd862e3fe1be46a994272793";
        for header in [
            format!("Root={id}"),
            format!("Root={id};Parent=53995c3f42cd8ad8;Sampled=1"),
            format!("Self=1-67891234-12456789abcdef012345678a; Root={id};Sampled=0"),
        ] {
            assert_eq!(trace_id(&header), Some(id), "{header}");
        }
    }

    #[test]
    fn what_is_no_id_is_none() {
        for header in [
            "",
            "Parent=53995c3f42cd8ad8;Sampled=1",
            "Root=",
            "Root=1-5759e988",
            "Root=2-5759e988-bd862e3fe1be46a994272793",
            "Root=1-5759e988-bd862e3fe1be46a99427279",
            "Root=1-5759e988-bd862e3fe1be46a994272793-1",
            "Root=1-5759e98g-bd862e3fe1be46a994272793",
            "Root=1-5759e988-bd862e3fe1be46a99427279\n",
        ] {
            assert_eq!(trace_id(header), None, "{header:?}");
        }
    }
}
