//! Finds a password that is not in the URL.
//!
//! Owns the grammar of passfiles, which is libpq's. Never reads the environment or a file: the caller passes both.

use super::connect::{host, port, read};

/// A URL with its password: its own, else the one for every server (`PGPASSWORD`), else that of the first matching line
/// of a passfile. Without any, or if the URL cannot be parsed, the URL does not change.
pub fn with_password(url: &str, given: Option<&str>, passfile: &str) -> String {
    let Ok(config) = read(url) else { return url.to_owned() };
    if config.get_password().is_some() {
        return url.to_owned();
    }
    let (host, port) = (host(&config), port(&config).to_string());
    let user = config.get_user().unwrap_or_default();
    // As in libpq: a database without a name has its user's name, and a socket counts as `localhost`.
    let database = config.get_dbname().unwrap_or(user);
    let wanted = [&host, &port, database, user];
    let local = ["localhost", &port, database, user];
    let is_socket = host.starts_with('/');
    let in_file = || {
        let lines = passfile.lines().filter(|line| !line.starts_with('#'));
        lines.filter_map(fields).find_map(|[fields @ .., password]| {
            let fits =
                |wanted: [&str; 4]| fields.iter().zip(wanted).all(|(field, wanted)| field == "*" || field == wanted);
            (fits(wanted) || (is_socket && fits(local))).then_some(password)
        })
    };
    let password = given.filter(|given| !given.is_empty()).map(str::to_owned).or_else(in_file);
    let Some(password) = password else { return url.to_owned() };
    let separator = if url.contains('?') { '&' } else { '?' };
    format!("{url}{separator}password={}", encoded(&password))
}

/// The five fields of a line: `host:port:database:user:password`, where `\\:` is a colon, and `\\\\` a backslash.
fn fields(line: &str) -> Option<[String; 5]> {
    let mut fields = vec![String::new()];
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        let is_last = fields.len() == 5;
        match (character, fields.last_mut()) {
            ('\\', Some(field)) => field.extend(characters.next()),
            // Everything after the fourth colon is the password.
            (':', _) if !is_last => fields.push(String::new()),
            (other, Some(field)) => field.push(other),
            (_, None) => {}
        }
    }
    fields.try_into().ok()
}

fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSFILE: &str = "# mine\nother:*:*:*:wrong\ndb.example.org:5432:mill:ann:p\\:a\\\\s:s é\n*:*:*:bob:bobs\nlocalhost:5432:*:eve:eves\n";

    fn password(url: &str, given: Option<&str>) -> Option<String> {
        let url = with_password(url, given, PASSFILE);
        let config = read(&url).expect("a URL");
        config.get_password().map(|password| String::from_utf8(password.to_vec()).expect("text"))
    }

    #[test]
    fn a_password_is_the_urls_or_the_environments_or_the_passfiles() {
        let url = "postgres://ann@db.example.org/mill";
        assert_eq!(password("postgres://ann:own@db.example.org/mill", Some("given")).as_deref(), Some("own"));
        assert_eq!(password(url, Some("given")).as_deref(), Some("given"));
        assert_eq!(password(url, None).as_deref(), Some("p:a\\s:s é"));
        assert_eq!(password(&format!("{url}?sslmode=require"), Some("")).as_deref(), Some("p:a\\s:s é"));
        assert_eq!(password("postgres://bob@anywhere:99/x", None).as_deref(), Some("bobs"));
        assert_eq!(password("postgres://eve@%2Frun%2Fpostgresql/x", None).as_deref(), Some("eves"));
        for none in ["postgres://ann@db.example.org/other", "postgres://ann@db.example.org:99/mill"] {
            assert_eq!(password(none, None), None, "{none}");
        }
        assert_eq!(with_password("postgres://ann@b:port/c", Some("given"), PASSFILE), "postgres://ann@b:port/c");
    }
}
