//! Servers of ASGI under supervisor: what becomes of a request that is under way when they are stopped.

use super::*;
use crate::support::services::server;
use crate::support::site::demo_site::{Address, Port, visitor};

const APP: &str = "
import asyncio

async def app(scope, receive, send):
    if scope['type'] == 'lifespan':
        while True:
            message = await receive()
            await send({'type': message['type'] + '.complete'})
            if message['type'] == 'lifespan.shutdown':
                return
    if scope['path'] == '/slow':
        open('slow', 'w').close()
        await asyncio.sleep(2)
    await send({'type': 'http.response.start', 'status': 200, 'headers': [(b'content-length', b'5')]})
    await send({'type': 'http.response.body', 'body': b'hello'})
";

#[test]
fn servers_that_interrupt_requests_are_told_of_and_the_others_complete_them() {
    // What becomes of the request, as deploykit expects it from the command.
    let cases = [
        ("daphne", "--port PORT", false),
        ("hypercorn", "--bind 127.0.0.1:PORT", true),
        ("hypercorn", "--workers 2 --bind 127.0.0.1:PORT", false),
        ("granian", "--interface asgi --workers 2 --port PORT", true),
        ("uvicorn", "--port PORT", true),
        ("uvicorn", "--workers 2 --port PORT", true),
    ];
    let site = tempfile::tempdir().unwrap();
    fs::write(site.path().join("site_asgi.py"), APP).unwrap();
    let ports: Vec<Port> = cases.iter().map(|_| Port::reserve().unwrap()).collect();
    let mut programs = String::new();
    for (number, ((name, args, _), port)) in cases.iter().zip(&ports).enumerate() {
        let Some(program) = server(name) else { return };
        let address = port.address();
        let args = args.replace("PORT", address.rsplit(':').next().unwrap());
        programs.push_str(&format!(
            "[program:s{number}]\ncommand = {} {args} site_asgi:app\ndirectory = {}\nautostart = false\n\
             stopwaitsecs = 15\n",
            program.display(),
            site.path().display()
        ));
    }
    let Some(supervisord) = Supervisord::start(&programs) else { return };
    let mark = site.path().join("slow");
    for (number, ((name, args, completes), port)) in cases.iter().zip(&ports).enumerate() {
        let what = format!("{name} {args}");
        let service = supervisord.service(&format!("s{number}"));
        perform(&service, Goal::Running).unwrap();
        let address = Address::Tcp(port.address());
        let ask = |path: &str| {
            let answer = visitor::request(&address, "localhost", path, None, Duration::from_secs(60));
            answer.is_ok_and(|answer| answer.body == "hello")
        };
        eventually(&format!("{what} answers"), || ask("/"));
        let before = state(&service);
        assert_eq!(before.cautions.is_empty(), *completes, "{what}: {:?}", before.cautions);
        assert!(before.cautions.iter().all(|text| text.starts_with(name)), "{:?}", before.cautions);
        let completed = std::thread::scope(|scope| {
            let asking = scope.spawn(|| ask("/slow"));
            eventually(&format!("{what} is asked"), || mark.exists());
            perform(&service, Goal::Stopped).unwrap();
            asking.join().unwrap()
        });
        assert_eq!(completed, *completes, "{what}");
        assert!(!alive(&before.pids), "{what}");
        fs::remove_file(&mark).unwrap();
    }
}
