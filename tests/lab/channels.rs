//! Channels, with a server of our own in the place of k3s'.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use crate::k3arm::{Home, Ran};
use crate::scenario;

const CHANNELS: &str = r#"{"type":"collection","data":[
 {"id":"stable","type":"channel","name":"stable","latest":"v1.36.2+k3s1"},
 {"id":"latest","type":"channel","name":"latest","latest":"v1.36.3+k3s1"},
 {"id":"v1.35","type":"channel","name":"v1.35","latest":"v1.35.8+k3s1"},
 {"id":"testing","type":"channel","name":"testing"}]}"#;

/// Answers every request with the same, as long as the test runs.
fn serve(status: &'static str, body: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let length = body.len();
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    format!("http://{address}/v1-release/channels")
}

fn resolve(channel: &str, url: &str) -> Ran {
    Home::new().k3arm(&["image", "resolve", channel, "--channels-url", url])
}

scenario! {
    fn a_channel_is_the_release_that_it_names_now(_lab) {
        let url = serve("200 OK", CHANNELS);
        resolve("stable", &url).exits(0).tells("rancher/k3s:v1.36.2-k3s1");
        resolve("latest", &url).exits(0).tells("rancher/k3s:v1.36.3-k3s1");
        resolve("v1.35", &url).exits(0).tells("rancher/k3s:v1.35.8-k3s1");
    }
}

scenario! {
    fn a_channel_without_a_release_is_told(_lab) {
        let url = serve("200 OK", CHANNELS);
        let ran = resolve("testing", &url).exits(1);
        assert!(ran.error("channel testing").contains("stable"), "{}", ran.all());
        let ran = resolve("v1.20", &url).exits(1);
        assert!(ran.error("k3s has no channel v1.20").contains("v1.35"), "{}", ran.all());
        let ran = resolve("stable", &serve("200 OK", "<html>")).exits(1);
        assert_eq!(ran.errors().len(), 1, "{}", ran.all());
    }
}

scenario! {
    /// Names first, then the lines from the newest on; a channel without a release is none to choose.
    fn versions_are_listed(_lab) {
        let url = serve("200 OK", CHANNELS);
        let list = |format: &str| Home::new().k3arm(&["version", "list", "--channels-url", &url, "-o", format]).exits(0);
        let names: Vec<String> = list("table").stdout.lines().skip(1).filter_map(|line| Some(line.split_whitespace().next()?.into())).collect();
        assert_eq!(names, ["stable", "latest", "v1.35"]);
        let channels = list("json").json();
        assert_eq!(channels["channels"][2]["release"], "v1.35.8+k3s1", "{channels}");
        assert_eq!(channels["channels"][2]["catalogued"], true, "{channels}");
    }
}
