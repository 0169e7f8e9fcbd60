/** What is wrong with a query. */

import { Problem } from '../problem';

export function malformed(message: string, metadata = {}): Problem {
  return Problem.invalid('query', 'QUERY_MALFORMED', message, metadata);
}

export function wrongOperand(operator: string, expected: string): Problem {
  return Problem.invalid('query', 'QUERY_OPERAND_INVALID', `\`${operator}\` takes ${expected}`, {
    operator,
  });
}

export function unknownOperator(operator: string): Problem {
  const message = `\`${operator}\` is not an operator of queries`;
  return Problem.invalid('query', 'QUERY_OPERATOR_UNKNOWN', message, { operator });
}

export function noTextIndex(): Problem {
  const message = '`$text` needs a text index, which this service does not have';
  return Problem.invalid('query', 'TEXT_INDEX_MISSING', message, { operator: '$text' });
}
