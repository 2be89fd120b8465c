import { Code, isRetryable } from './codes.js';
import type { Frame } from './frames.js';
import type { Message } from './message.js';

/** A refusal by the server. */
export class ServerError extends Error {
  override readonly name = 'ServerError';
  /** See {@link Code}. */
  readonly code: number;
  /** How long to wait before trying again, in milliseconds, if the server said so. */
  readonly delayMs: number | undefined;

  constructor(code: number, message?: string, delayMs?: number) {
    super(message ? `refused with code ${code}: ${message}` : `refused with code ${code}`);
    this.code = code;
    this.delayMs = delayMs;
  }

  /** Whether the same may succeed later. */
  get retryable(): boolean {
    return isRetryable(this.code);
  }

  /** Whether this device logged in elsewhere, so that the two would take turns if this one connected again. */
  get kicked(): boolean {
    return this.code === Code.Replaced;
  }

  /** @internal */
  static of(frame: Frame): ServerError {
    return new ServerError(frame.code ?? Code.Internal, frame.message, frame.delayMs);
  }
}

/** The client was closed by this program, or has ended for the reason in `cause`. */
export class ClosedError extends Error {
  override readonly name = 'ClosedError';
  constructor(cause?: Error) {
    super(cause ? `the client has ended: ${cause.message}` : 'the client is closed', cause && { cause });
  }
}

/** The connection broke, or could not be made. What was asked over it may have been done or not. */
export class ConnectionLostError extends Error {
  override readonly name = 'ConnectionLostError';
  /** The WebSocket close code, if there was one. */
  readonly closeCode: number | undefined;

  constructor(message: string, closeCode?: number) {
    super(message);
    this.closeCode = closeCode;
  }
}

/** There was no answer in time. What was asked may have been done or not; sending it again with its `clientMsgId` is safe. */
export class TimeoutError extends Error {
  override readonly name = 'TimeoutError';
  /** Of the message, to send it again as the same one. */
  readonly clientMsgId: string | undefined;

  constructor(what: string, timeoutMs: number, clientMsgId?: string) {
    super(`${what}: no answer within ${timeoutMs} ms`);
    this.clientMsgId = clientMsgId;
  }
}

/** Too many messages or requests wait for the server; this one was not sent. */
export class TooManyWaitingError extends Error {
  override readonly name = 'TooManyWaitingError';
}

/** A message handler failed; its error is the `cause`. The message was not acknowledged and will come again. */
export class HandlerError extends Error {
  override readonly name = 'HandlerError';
  readonly #received: Message;

  constructor(received: Message, cause: unknown) {
    super(`the handler of message ${received.id} failed: ${cause instanceof Error ? cause.message : String(cause)}`, {
      cause,
    });
    this.#received = received;
  }

  /** The message. It is no property of its own, so that logs of the error do not hold what people write. */
  get received(): Message {
    return this.#received;
  }
}

/**
 * Messages came faster than the handler took them. The connection is made again when the handler has caught up, and then
 * the server sends what was not taken.
 */
export class OverrunError extends Error {
  override readonly name = 'OverrunError';
  constructor(waiting: number) {
    super(`${waiting} messages wait for the handler`);
  }
}
