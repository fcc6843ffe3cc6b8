//! RFC 8906 section 8, case by case, and what belongs beside it: negative answers, case, ANY, cookies.

use dunlin_names::NameChange;
use hickory_proto::rr::RData;

use crate::wire::*;

fn cookie(bytes: &[u8]) -> Edns {
    let mut options = vec![0, 10, 0, u8::try_from(bytes.len()).unwrap()];
    options.extend_from_slice(bytes);
    Edns { options, ..Edns::default() }
}

#[tokio::test]
async fn section_8_1_plain_questions_and_header_bits() {
    let (_server, at) = server().await;
    // 8.1.1: a server that answers SOA for its zone is there at all.
    let soa = udp(at, &Query::of("dunlin.internal", SOA)).await;
    assert_eq!((soa.shape(), soa.flags()), ((0, [1, 0, 0]), QR | AA));
    // 8.1.2: unknown types are types without records.
    for kind in [1_000, 65_534, 0, 13, 257] {
        assert_eq!(udp(at, &Query::of(WEB, kind)).await.shape(), (0, [0, 1, 0]), "type {kind}");
    }
    // 8.1.3: header bits. RD is copied, no other is; CD neither, by an authority (RFC 4035 section 3.1.6).
    for (sent, back) in [(CD, 0), (AD, 0), (Z, 0), (RD, RD), (RA, 0), (AA, 0), (TC, 0), (CD | AD | Z | RD, RD)] {
        let reply = udp(at, &Query::of("dunlin.internal", SOA).flags(sent)).await;
        assert_eq!((reply.shape(), reply.flags()), ((0, [1, 0, 0]), QR | AA | back), "flags {sent:04x}");
        let reply = udp(at, &Query::of(WEB, A).flags(sent)).await;
        assert_eq!((reply.shape(), reply.flags()), ((0, [2, 0, 0]), QR | AA | back), "flags {sent:04x}");
    }
    // 8.1.4: unknown opcodes are NOTIMP, with and without a question, and the opcode comes back.
    for opcode in 1..16_u16 {
        for bytes in [
            Query::of(WEB, A).flags(opcode << 11).bytes(),
            vec![0xab, 0xcd, (opcode as u8) << 3, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        ] {
            let reply = exchange(&client().await, at, &bytes).await;
            assert_eq!((reply.code(), u16::from(reply.bytes[2] >> 3 & 15)), (4, opcode));
        }
    }
    // 8.1.5: TCP.
    let mut stream = tokio::net::TcpStream::connect(at).await.unwrap();
    send_tcp(&mut stream, &Query::of("dunlin.internal", SOA).bytes()).await;
    assert_eq!(read_tcp(&mut stream).await.expect("an answer").shape(), (0, [1, 0, 0]));
}

#[tokio::test]
async fn section_8_2_edns() {
    let (server, at) = server().await;
    let ask = |edns: Edns| Query::of("dunlin.internal", SOA).edns(edns);
    // 8.2.1: EDNS is answered with EDNS, of version 0.
    let reply = udp(at, &ask(Edns::default())).await;
    let edns = reply.message.edns.as_ref().expect("an OPT");
    assert_eq!((reply.shape(), edns.version(), edns.max_payload()), ((0, [1, 0, 0]), 0, 1_232));
    assert!(udp(at, &Query::of(WEB, A)).await.message.edns.is_none(), "no OPT where none was sent");
    // 8.2.2, 8.2.5, 8.2.7: other versions are BADVERS without an answer, whatever else there is.
    for version in [1, 100, 255] {
        for (flags, options) in [(0, vec![]), (0x4000, vec![]), (0x8000, vec![0, 100, 0, 0])] {
            let reply = udp(at, &ask(Edns { version, flags, options, ..Edns::default() })).await;
            let edns = reply.message.edns.as_ref().expect("an OPT");
            assert_eq!((reply.shape(), edns.version(), edns.options().as_ref().len()), ((16, [0, 0, 0]), 0, 0));
            assert_eq!(edns.flags().z, 0);
        }
    }
    // 8.2.3: unknown options are ignored and do not come back; known ones that we do not speak neither.
    for code in [100, 65_001, 3, 8, 9, 11, 12] {
        let options = [&u16::to_be_bytes(code)[..], &[0, 4, 0, 1, 0, 0]].concat();
        let reply = udp(at, &ask(Edns { options, ..Edns::default() })).await;
        let edns = reply.message.edns.as_ref().expect("an OPT");
        assert_eq!((reply.shape(), edns.options().as_ref().len()), ((0, [1, 0, 0]), 0), "option {code}");
    }
    // 8.2.4: unknown flags are ignored and do not come back; DO does (RFC 3225).
    let reply = udp(at, &ask(Edns { flags: 0x4000, ..Edns::default() })).await;
    assert_eq!(
        (reply.shape(), reply.message.edns.as_ref().map(|e| (e.flags().dnssec_ok, e.flags().z))),
        ((0, [1, 0, 0]), Some((false, 0)))
    );
    let reply = udp(at, &ask(Edns { flags: 0x8000, ..Edns::default() })).await;
    assert_eq!((reply.shape(), reply.message.edns.as_ref().map(|e| e.flags().dnssec_ok)), ((0, [1, 0, 0]), Some(true)));
    // 8.2.6: what does not fit is cut at the client's size, and the OPT is still there.
    server.apply(&[NameChange::Service { service: service(), instances: instances(100) }]);
    for (payload, most) in [(0, 512), (512, 512), (700, 700), (1_232, 1_232), (65_535, 1_232)] {
        let reply = udp(at, &Query::of(WEB, A).edns(Edns { payload, ..Edns::default() })).await;
        assert_eq!(reply.flags(), QR | AA | TC, "payload {payload}");
        assert!(reply.bytes.len() <= most && reply.bytes.len() > most - 32, "{} of {most}", reply.bytes.len());
        assert!(reply.message.edns.is_some());
    }
    let plain = udp(at, &Query::of(WEB, A)).await;
    assert!(plain.flags() & TC != 0 && plain.bytes.len() <= 512);
    // What is only helpful is left out without a word.
    server.apply(&[NameChange::Service { service: service(), instances: instances(10) }]);
    let srv = udp(at, &Query::of(WEB, SRV)).await;
    assert_eq!((srv.flags(), srv.shape().1[0]), (QR | AA, 10), "{} bytes", srv.bytes.len());
}

#[tokio::test]
async fn two_opts_and_misplaced_ones_are_malformed() {
    let (_server, at) = server().await;
    let mut twice = Query::of(WEB, A).edns(Edns::default()).bytes();
    twice.extend_from_slice(&[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
    twice[11] = 2;
    assert_eq!(exchange(&client().await, at, &twice).await.code(), 1);
    assert_eq!(udp(at, &Query::of(WEB, 41)).await.code(), 1, "a question for OPT");
    let mut as_answer = Query::of(WEB, A).edns(Edns::default()).bytes();
    as_answer.swap(7, 11);
    assert_eq!(exchange(&client().await, at, &as_answer).await.code(), 1, "an OPT among the answers");
}

#[tokio::test]
async fn a_no_tells_what_does_not_exist_and_for_how_long() {
    let (server, at) = server().await;
    for (name, code) in [
        ("no.shop.dunlin.internal", 3),
        ("x.no.shop.dunlin.internal", 3),
        ("x.web.shop.dunlin.internal", 3),
        ("shop.dunlin.internal", 0),
        ("_tcp.web.shop.dunlin.internal", 0),
        ("node.dunlin.internal", 0),
        ("nostack.dunlin.internal", 3),
    ] {
        let reply = udp(at, &Query::of(name, A)).await;
        assert_eq!((reply.shape(), reply.flags()), ((code, [0, 1, 0]), QR | AA), "{name}");
        // RFC 2308 section 3: the SOA, with the lesser of its TTL and its minimum.
        let soa = &reply.message.authorities[0];
        let RData::SOA(data) = &soa.data else { panic!("{soa} is no SOA") };
        assert_eq!((soa.ttl, data.minimum, soa.name.to_string().as_str()), (1, 1, "dunlin.internal."));
    }
    assert_eq!(udp(at, &Query::of(WEB, AAAA)).await.shape(), (0, [0, 1, 0]));
    server.apply(&[NameChange::Service { service: service(), instances: vec![] }]);
    assert_eq!(udp(at, &Query::of(WEB, A)).await.shape(), (0, [0, 1, 0]));
    server.apply(&[NameChange::ServiceGone(service())]);
    assert_eq!(udp(at, &Query::of(WEB, A)).await.shape(), (3, [0, 1, 0]));
    let elsewhere = udp(at, &Query::of("example.org", A)).await;
    assert_eq!(
        (elsewhere.shape(), elsewhere.flags()),
        ((5, [0, 0, 0]), QR),
        "not ours: REFUSED, and not as an authority"
    );
    for chaos in ["version.bind", "hostname.bind", "id.server"] {
        let reply = udp(at, &Query { class: 3, ..Query::of(chaos, 16) }).await;
        assert_eq!(reply.shape(), (5, [0, 0, 0]), "{chaos} tells nothing");
    }
    for transfer in [251, 252] {
        assert_eq!(udp(at, &Query::of("dunlin.internal", transfer)).await.code(), 5);
    }
}

#[tokio::test]
async fn names_are_compared_without_case_and_come_back_as_they_were_asked() {
    let (_server, at) = server().await;
    let name = "WeB.sHoP.DUNLIN.Internal";
    for kind in [A, SRV, AAAA] {
        let query = Query::of(name, kind);
        let reply = udp(at, &query).await;
        assert_eq!(reply.code(), 0);
        let question = &query.bytes()[12..];
        assert_eq!(&reply.bytes[12..12 + question.len()], question, "letter by letter");
        assert!(reply.message.answers.iter().all(|record| record.name.to_string() == format!("{name}.")));
    }
}

#[tokio::test]
async fn any_is_answered_with_one_type_and_service_bindings_with_targets() {
    let (_server, at) = server().await;
    let any = udp(at, &Query::of(WEB, ANY)).await;
    assert_eq!(any.shape(), (0, [2, 0, 0]), "RFC 8482 section 4.1");
    let svcb = udp(at, &Query::of(&format!("_http._tcp.{WEB}"), 64)).await;
    assert_eq!(svcb.shape(), (0, [2, 0, 2]));
    assert!(svcb.message.answers.iter().all(|record| record.data.to_string().contains("port=")), "{}", svcb.message);
}

#[tokio::test]
async fn cookies_are_given_recognised_and_judged() {
    let (_server, at) = server().await;
    let socket = client().await;
    let ask = |bytes: &[u8]| Query::of(WEB, A).edns(cookie(bytes)).bytes();
    let first = exchange(&socket, at, &ask(&[7; 8])).await;
    assert_eq!(first.shape(), (0, [2, 0, 0]));
    let given = &first.bytes[first.bytes.len() - 24..];
    assert_eq!((&first.bytes[first.bytes.len() - 28..][..4], &given[..8]), (&[0, 10, 0, 24][..], &[7; 8][..]));
    assert_eq!(exchange(&socket, at, &ask(given)).await.shape(), (0, [2, 0, 0]));
    for wrong in [1, 7, 9, 15, 41] {
        assert_eq!(exchange(&socket, at, &ask(&vec![7; wrong])).await.code(), 1, "{wrong} bytes");
    }
    // Only a cookie, no question (RFC 7873 section 5.4); and no question at all.
    let mut bare = vec![0xab, 0xcd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    bare.extend_from_slice(&ask(&[7; 8])[ask(&[7; 8]).len() - 23..]);
    let reply = exchange(&socket, at, &bare).await;
    assert_eq!((reply.shape(), reply.message.edns.is_some()), ((0, [0, 0, 0]), true));
    assert_eq!(exchange(&socket, at, &[0xab, 0xcd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).await.code(), 1);
}
