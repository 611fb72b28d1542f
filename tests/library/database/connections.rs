//! The programs reach the database as Django does.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use super::*;

super::on_each_engine! { over_tcp }

/// Hands connections over to a server's socket, for as long as this process lives; returns the port.
pub(crate) fn proxy(socket: PathBuf) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(server) = UnixStream::connect(&socket) else { continue };
            let (from, to) = (client.try_clone().expect("a socket"), server.try_clone().expect("a socket"));
            std::thread::spawn(move || hand_over(from, server));
            std::thread::spawn(move || {
                let mut to = to;
                let _ = io::copy(&mut to, &mut &client);
                let _ = client.shutdown(std::net::Shutdown::Both);
            });
        }
    });
    port
}

fn hand_over(mut from: TcpStream, mut to: UnixStream) {
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(std::net::Shutdown::Write);
}

/// Copies the database, loses rows, and brings them back.
#[track_caller]
fn there_and_back(site: &Site, database: &Database) {
    let facts = database.facts();
    backup(site).perform(&mut Context::default()).unwrap_or_else(|error| panic!("{error:?}"));
    let before = site.boot().on("default").state(&Host::new()).expect("a state");
    database.sql("DELETE FROM shop_item");
    restore(site, &before, true).perform(&mut Context::default()).unwrap_or_else(|error| panic!("{error:?}"));
    assert_same(&facts, &database.facts());
}

fn over_tcp(engine: Engine) {
    let Some((site, database)) = migrated(engine) else { return };
    let socket = PathBuf::from(&database.host);
    let socket = if engine == Engine::PostgreSql { socket.join(".s.PGSQL.5432") } else { socket };
    let port = proxy(socket);
    // PostgreSQL's programs would not come in without the mode, which the server here cannot do otherwise.
    let options =
        if engine == Engine::PostgreSql { "{\"sslmode\": \"disable\"}" } else { "{\"ssl_disabled\": True}" };
    site.append(
        "config/settings.py",
        &format!("DATABASES['default'].update(HOST='127.0.0.1', PORT='{port}', OPTIONS={options})"),
    );
    there_and_back(&site, &database);
}

#[test]
fn by_an_option_file_alone() {
    let Some((site, database)) = migrated(Engine::MariaDb) else { return };
    // Drivers and programs do not agree on what a backslash is in such a file.
    database.sql_as_admin(&format!("ALTER USER {}@localhost IDENTIFIED BY 'plain-and-long'", database.name));
    let database = Database { password: "plain-and-long".to_owned(), ..database };
    site.write(
        "my.cnf",
        &format!(
            "[client]\nuser = {0}\npassword = {2}\ndatabase = {0}\nsocket = {1}\n",
            database.name, database.host, database.password
        ),
    );
    site.append(
        "config/settings.py",
        "DATABASES['default'] = {'ENGINE': 'django.db.backends.mysql', 'NAME': '', \
         'OPTIONS': {'read_default_file': str(BASE_DIR / 'my.cnf')}}",
    );
    there_and_back(&site, &database);
}
