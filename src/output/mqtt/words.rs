//! Why there is no connection to a broker, in words that say what to do.

use std::io;
use std::time::Duration;

use rumqttc::{ConnectReturnCode, ConnectionError, Error as PacketError, StateError, TlsError};
use rustls::{AlertDescription, CertificateError, Error as Rustls};

use super::Settings;

/// The words for an error; `lived` is how long the connection had been accepted, if it had been, and
/// `is_young` whether that is less than one must live.
pub(super) fn words(
    error: &ConnectionError,
    settings: &Settings,
    lived: Option<Duration>,
    is_young: bool,
) -> String {
    use ConnectionError::{ConnectionRefused, FlushTimeout, MqttState, NetworkTimeout, NotConnAck};
    let io = io_of(error);
    if let Some(error) = io.and_then(|e| e.get_ref()).and_then(|e| e.downcast_ref::<Rustls>()) {
        return words_of_tls(error, settings);
    }
    let is_closed = matches!(error, MqttState(StateError::ConnectionAborted))
        || io.is_some_and(|e| {
            use io::ErrorKind::{
                BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof,
            };
            matches!(
                e.kind(),
                BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected | UnexpectedEof
            )
        });
    match (error, lived) {
        (ConnectionRefused(code), _) => words_of_refusal(*code, settings),
        (NetworkTimeout, _) if settings.tls => format!("does not answer; {NO_TLS}"),
        (NetworkTimeout, _) => "does not answer".into(),
        (FlushTimeout, _) => "takes nothing any more".into(),
        (MqttState(StateError::AwaitPingResp), _) => "does not answer any more".into(),
        (ConnectionError::Tls(_), _) if is_closed => {
            format!("ends the connection instead of beginning TLS; {NO_TLS}")
        }
        (NotConnAck(_) | MqttState(StateError::Deserialization(_)), None) if !settings.tls && !is_closed => {
            "the port wants TLS, or is not one of MQTT: set tls = true".into()
        }
        (_, None) if is_closed && !settings.tls => {
            "ends the connection instead of answering; if the port wants TLS, set tls = true".into()
        }
        (_, None) if is_closed => {
            "ends the connection instead of answering; if it wants a certificate, set certificate_file and key_file".into()
        }
        (_, Some(lived)) if is_closed && is_young => {
            format!(
                "closed the connection after {:.1} s: another client uses the same client_id, {:?}, or the broker \
                 forbids what is sent; each inspector needs its own client_id or prefix",
                lived.as_secs_f64(),
                settings.id(),
            )
        }
        (_, Some(_)) if is_closed => "closed the connection".into(),
        _ => io.map_or_else(|| error.to_string(), io::Error::to_string),
    }
}

const NO_TLS: &str =
    "if the port does not speak TLS, leave tls out, or set port to the one that does, usually 8883";

fn io_of(error: &ConnectionError) -> Option<&io::Error> {
    match error {
        ConnectionError::Io(e)
        | ConnectionError::Tls(TlsError::Io(e))
        | ConnectionError::MqttState(StateError::Io(e) | StateError::Deserialization(PacketError::Io(e))) => {
            Some(e)
        }
        _ => None,
    }
}

fn words_of_refusal(code: ConnectReturnCode, settings: &Settings) -> String {
    use ConnectReturnCode::{BadClientId, BadUserNamePassword, NotAuthorized, RefusedProtocolVersion};
    match code {
        BadUserNamePassword | NotAuthorized if settings.username.is_none() => {
            "a connection without a password is refused: set username and password_file".into()
        }
        BadUserNamePassword => "the password is refused: see username and password_file".into(),
        NotAuthorized => {
            "the password is refused, or this client is: see username and password_file, and the broker's rules".into()
        }
        BadClientId => format!("the client_id is refused: {:?}; set another one", settings.id()),
        RefusedProtocolVersion => "does not speak MQTT 3.1.1".into(),
        _ => "refuses connections at the moment".into(),
    }
}

fn words_of_tls(error: &Rustls, settings: &Settings) -> String {
    let authority = match settings.ca_file {
        Some(_) => "no authority of ca_file signed the broker's certificate",
        None => "no authority that this system trusts signed the broker's certificate: set ca_file",
    };
    match error {
        Rustls::InvalidCertificate(error) => match error {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => authority.into(),
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "the broker's certificate has expired, or this machine's clock is wrong".into()
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "the broker's certificate is not valid yet, or this machine's clock is wrong".into()
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                format!("the broker's certificate is not for {:?}: set host to a name in it", settings.host)
            }
            CertificateError::Other(e) if format!("{e:?}").contains("CaUsedAsEndEntity") => {
                "the broker shows the certificate of an authority: make it one of its own, signed by that"
                    .into()
            }
            other => format!("the broker's certificate cannot be trusted: {other}"),
        },
        Rustls::InvalidMessage(_) => format!("does not answer in TLS; {NO_TLS}"),
        Rustls::AlertReceived(alert) => match alert {
            AlertDescription::CertificateRequired
            | AlertDescription::NoCertificate
            | AlertDescription::HandshakeFailure
                if settings.certificate_file.is_none() =>
            {
                "wants a certificate: set certificate_file and key_file".into()
            }
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateRequired
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError
            | AlertDescription::UnknownCA => {
                format!("refuses the certificate in certificate_file ({alert:?})")
            }
            other => format!("ends TLS ({other:?})"),
        },
        other => format!("TLS cannot be begun: {other}"),
    }
}
