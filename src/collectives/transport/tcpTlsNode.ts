/** TLS for the connections between ranks: by certificates, or by a key made from the token alone. */
import { createHash } from "node:crypto";
import type { ConnectionOptions, TlsOptions } from "node:tls";

/** Certificates in PEM; `ca` checks the other end, and both ends show one. "token": a key made from the token. */
export type TcpTls = "token" | { readonly key: string; readonly cert: string; readonly ca: string };

const PRE_SHARED = {
  ciphers: "ECDHE-PSK-CHACHA20-POLY1305", // forward secrecy
  maxVersion: "TLSv1.2", // Node has pre-shared keys up to here
} as const;

export function tlsServerOptions(tls: TcpTls, token: string): TlsOptions {
  if (tls === "token") return { ...PRE_SHARED, pskCallback: () => keyOf(token) };
  return { ...tls, requestCert: true, rejectUnauthorized: true };
}

/** The other end is known by its certificate's issuer, or by the key; not by a host name. */
export function tlsClientOptions(tls: TcpTls, token: string): ConnectionOptions {
  const checkServerIdentity = (): undefined => undefined;
  if (tls !== "token") return { ...tls, rejectUnauthorized: true, checkServerIdentity };
  const pskCallback = (): { psk: Buffer; identity: string } => ({
    psk: keyOf(token),
    identity: "tandem",
  });
  return { ...PRE_SHARED, pskCallback, checkServerIdentity };
}

function keyOf(token: string): Buffer {
  return createHash("sha256").update(`tandem tls ${token}`).digest();
}
