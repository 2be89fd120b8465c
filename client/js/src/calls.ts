import { Code, isSuccess } from './codes.js';
import type { Environment } from './environment.js';
import { ServerError, TimeoutError, TooManyWaitingError } from './errors.js';
import { type Frame, FrameType } from './frames.js';

/** How many requests may wait for their answers. */
const maxWaiting = 256;

interface Call {
  frame: Frame;
  sent: boolean;
  settle: (result: Frame | Error) => void;
}

/**
 * Requests that are answered and are not messages. They wait for a connection, but are not sent twice: when the
 * connection ends before the answer came, nobody knows whether a group was made, and only the caller knows what to do.
 */
export class Calls {
  readonly #environment: Environment;
  readonly #calls = new Map<string, Call>();
  #transmit: ((frame: Frame) => void) | undefined;
  #lastId = 0;

  constructor(environment: Environment) {
    this.#environment = environment;
  }

  /** Sends a request, as soon as there is a connection, and returns the answer. A refusal is a ServerError. */
  call(frame: Frame, timeoutMs: number): Promise<Frame> {
    if (this.#calls.size >= maxWaiting) {
      return Promise.reject(new TooManyWaitingError(`${maxWaiting} requests wait for the server already`));
    }
    const id = keyOf(frame) ?? String(++this.#lastId);
    const request = keyOf(frame) === undefined ? { ...frame, requestId: id } : frame;
    if (this.#calls.has(id)) {
      return Promise.reject(new TooManyWaitingError('the same request waits for its answer'));
    }
    return new Promise<Frame>((resolve, reject) => {
      const cancel = this.#environment.after(timeoutMs, () => call.settle(new TimeoutError('request', timeoutMs)));
      const call: Call = {
        frame: request,
        sent: false,
        settle: (result) => {
          cancel();
          this.#calls.delete(id);
          if (result instanceof Error) {
            reject(result);
          } else {
            resolve(result);
          }
        },
      };
      this.#calls.set(id, call);
      this.#pump();
    });
  }

  /** Takes an answer. Returns whether a request waited for it. */
  answer(frame: Frame): boolean {
    const call = this.#calls.get(keyOf(frame) ?? frame.requestId ?? '');
    if (call === undefined) {
      return false;
    }
    call.settle(isSuccess(frame.code ?? Code.Internal) ? frame : ServerError.of(frame));
    return true;
  }

  /** Sends what waits. */
  connected(transmit: (frame: Frame) => void): void {
    this.#transmit = transmit;
    this.#pump();
  }

  /** Fails what was sent; the rest waits for the next connection. */
  disconnected(reason: Error): void {
    this.#transmit = undefined;
    for (const call of [...this.#calls.values()]) {
      if (call.sent) {
        call.settle(reason);
      }
    }
  }

  /** Fails everything that waits. */
  close(reason: Error): void {
    this.#transmit = undefined;
    for (const call of [...this.#calls.values()]) {
      call.settle(reason);
    }
  }

  #pump(): void {
    for (const call of this.#calls.values()) {
      if (this.#transmit !== undefined && !call.sent) {
        call.sent = true;
        this.#transmit(call.frame);
      }
    }
  }
}

/** What a request to log in is recognised by; others repeat their request id. */
function keyOf(frame: Frame): string | undefined {
  return frame.type === FrameType.Login || frame.type === FrameType.LoginResp ? 'login' : undefined;
}
