//! The test server itself: databases of their own, stopping and starting, and an end with its process.

use gristmill_test_postgres::Server;

#[test]
fn databases_are_apart_and_a_server_that_was_stopped_starts_again() {
    let mut server = Server::start();
    let url = {
        let (one, two) = (server.database(), server.database());
        one.execute("CREATE TABLE t (x INT); INSERT INTO t VALUES (7)");
        assert_eq!(one.query("SELECT x FROM t"), ["7"]);
        assert_eq!(two.query("SELECT to_regclass('t') IS NULL"), ["t"]);
        two.name().to_owned()
    };
    let gone = server.database().query(&format!("SELECT count(*) FROM pg_database WHERE datname = '{url}'"));
    assert_eq!(gone, ["0"], "a database goes with its handle");
    let first = server.pid();
    server.stop();
    server.start_again();
    assert_ne!(server.pid(), first);
    assert_eq!(server.database().query("SHOW fsync"), ["off"]);
    let folder = server.socket_folder().expect("a folder");
    assert!(folder.exists());
    drop(server);
    assert!(!folder.exists(), "nothing is left behind");
}
