import { type Kind, qualifiedPlural } from './kinds.mts'

export interface FieldError {
  /** The API's name of the fault, e.g. FieldValueInvalid. */
  reason: string
  field: string
  /** `spec.x: Invalid value: 1: why` less the field. */
  message: string
}

/** The body of every refusal, in the API's own form: kubectl builds its messages from `reason` and `details`. */
export interface Status {
  kind: 'Status'
  apiVersion: 'v1'
  metadata: Record<string, never>
  status: 'Failure'
  message: string
  reason: string
  details?: Record<string, unknown>
  code: number
}

/** An answer other than success. */
export class ApiError extends Error {
  readonly status: Status

  constructor(code: number, reason: string, message: string, details?: Record<string, unknown>) {
    super(message)
    this.status = {
      kind: 'Status',
      apiVersion: 'v1',
      metadata: {},
      status: 'Failure',
      message,
      reason,
      ...(details && { details }),
      code,
    }
  }
}

function named(kind: Kind, name: string): Record<string, unknown> {
  return { name, ...(kind.group && { group: kind.group }), kind: kind.plural }
}

export function notFound(kind: Kind, name: string): ApiError {
  return new ApiError(404, 'NotFound', `${qualifiedPlural(kind)} "${name}" not found`, named(kind, name))
}

export function alreadyExists(kind: Kind, name: string): ApiError {
  return new ApiError(409, 'AlreadyExists', `${qualifiedPlural(kind)} "${name}" already exists`, named(kind, name))
}

export function modified(kind: Kind, name: string): ApiError {
  const message = `Operation cannot be fulfilled on ${qualifiedPlural(kind)} "${name}": the object has been modified; please apply your changes to the latest version and try again`
  return new ApiError(409, 'Conflict', message, named(kind, name))
}

export function preconditionFailed(kind: Kind, name: string, what: string, wanted: string, found: string): ApiError {
  const subject = kind.group ? `${kind.kind}.${kind.group}` : kind.kind
  const message = `Operation cannot be fulfilled on ${subject} "${name}": the ${what} in the precondition (${wanted}) does not match the ${what} in record (${found}). The object might have been deleted and then recreated`
  return new ApiError(409, 'Conflict', message, { ...named(kind, name), kind: kind.kind })
}

export function invalid(kind: Kind, name: string, causes: FieldError[]): ApiError {
  const lines = causes.map((cause) => `${cause.field}: ${cause.message}`)
  const subject = kind.group ? `${kind.kind}.${kind.group}` : kind.kind
  const message = `${subject} "${name}" is invalid: ${lines.length === 1 ? lines[0] : `[${lines.join(', ')}]`}`
  return new ApiError(422, 'Invalid', message, { ...named(kind, name), kind: kind.kind, causes })
}

export function badRequest(message: string): ApiError {
  return new ApiError(400, 'BadRequest', message)
}

export function forbidden(message: string, details?: Record<string, unknown>): ApiError {
  return new ApiError(403, 'Forbidden', message, details)
}

/** What the real API could do and the stand-in does not: an error and a record, never a guess. */
export class Unsupported extends ApiError {
  constructor(what: string) {
    super(501, 'NotImplemented', `the Kubernetes stand-in does not support ${what}`)
  }
}
