/**
 * Who may join: both ends prove that they know the token without sending it. The dialler proves first,
 * so that a stranger gets nothing to work on. Each HMAC covers both nonces, both ranks and its role, so
 * that none can be replayed or mirrored.
 *
 *   dialler  -> "TNDM", version, rank, worldSize, nonce A (32)
 *   acceptor -> nonce B (32)
 *   dialler  -> HMAC(token, "dial" ...)
 *   acceptor -> HMAC(token, "accept" ...)
 */
import { createHmac, randomBytes, timingSafeEqual } from "node:crypto";
import type { Socket } from "node:net";
import { CollectiveError } from "../../common/errors.ts";

const MAGIC = "TNDM";
const VERSION = 1;
const NONCE_BYTES = 32;
const MAC_BYTES = 32;
const HELLO_BYTES = 16 + NONCE_BYTES;
const HANDSHAKE_MS = 5000;

/** The world that an end believes it is joining. */
export interface Identity {
  readonly rank: number;
  readonly worldSize: number;
  readonly token: string;
}

interface Parties {
  readonly dialler: number;
  readonly acceptor: number;
  readonly worldSize: number;
  readonly nonces: Buffer;
}

/** On the end that dialled `acceptor`. */
export async function authenticateDialled(
  socket: Socket,
  { rank, worldSize, token }: Identity,
  acceptor: number,
): Promise<void> {
  const nonce = randomBytes(NONCE_BYTES);
  const hello = Buffer.alloc(16);
  hello.write(MAGIC, 0, "latin1");
  hello.writeUInt32LE(VERSION, 4);
  hello.writeUInt32LE(rank, 8);
  hello.writeUInt32LE(worldSize, 12);
  socket.write(Buffer.concat([hello, nonce]));
  const theirs = await readExactly(socket, NONCE_BYTES);
  const parties = { dialler: rank, acceptor, worldSize, nonces: Buffer.concat([nonce, theirs]) };
  socket.write(proof(token, "dial", parties));
  const answer = await readExactly(socket, MAC_BYTES);
  if (!timingSafeEqual(answer, proof(token, "accept", parties))) {
    throw new CollectiveError("it does not know the token");
  }
}

/** On the end that accepted a connection; returns the rank that dialled. */
export async function authenticateAccepted(
  socket: Socket,
  { rank, worldSize, token }: Identity,
): Promise<number> {
  const hello = await readExactly(socket, HELLO_BYTES);
  const [version, dialler, size] = [4, 8, 12].map((at) => hello.readUInt32LE(at));
  if (hello.toString("latin1", 0, 4) !== MAGIC || version !== VERSION || dialler === undefined) {
    throw new CollectiveError("expected a rank of this version, got something else");
  }
  const nonce = randomBytes(NONCE_BYTES);
  socket.write(nonce);
  const nonces = Buffer.concat([hello.subarray(16), nonce]);
  const parties = { dialler, acceptor: rank, worldSize, nonces };
  const answer = await readExactly(socket, MAC_BYTES);
  if (!timingSafeEqual(answer, proof(token, "dial", parties)) || size !== worldSize) {
    throw new CollectiveError(
      `expected the token of this world of ${worldSize} ranks, got another`,
    );
  }
  socket.write(proof(token, "accept", parties));
  return dialler;
}

function proof(token: string, role: "dial" | "accept", parties: Parties): Buffer {
  const { dialler, acceptor, worldSize, nonces } = parties;
  const mac = createHmac("sha256", token);
  return mac.update(`tandem ${role} ${dialler} ${acceptor} ${worldSize} `).update(nonces).digest();
}

/** Leaves what follows in the socket. */
function readExactly(socket: Socket, numBytes: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const settle = (outcome: Buffer | Error): void => {
      clearTimeout(timer);
      socket.off("readable", tryRead);
      socket.off("close", onClose);
      socket.off("error", settle);
      if (outcome instanceof Error) reject(outcome);
      else resolve(outcome);
    };
    const tryRead = (): void => {
      const bytes = socket.read(numBytes) as Buffer | null;
      if (bytes?.length === numBytes) settle(bytes);
      else if (bytes !== null) settle(new CollectiveError("the connection ended early"));
    };
    const onClose = (): void => {
      settle(
        new CollectiveError("the connection was closed; is the token the same on all machines?"),
      );
    };
    const timer = setTimeout(() => {
      settle(new CollectiveError(`no answer to the handshake within ${HANDSHAKE_MS} ms`));
    }, HANDSHAKE_MS);
    socket.on("readable", tryRead);
    socket.on("close", onClose);
    socket.on("error", settle);
    tryRead();
  });
}
