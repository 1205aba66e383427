"use strict";
// Tables: delimited text to rows and back. No row or field is lost, and no cell of the result is a formula.
const tables = (function () {
  // Bytes as text: UTF-8, else GB18030; null for what is neither (an Excel file, a picture).
  function decoded(bytes) {
    for (const encoding of ["utf-8", "gb18030"]) {
      try {
        const text = new TextDecoder(encoding, { fatal: true }).decode(bytes);
        return text.includes("\0") ? null : text;
      } catch { /* the next one */ }
    }
    return null;
  }

  // The delimiter that parts the first row into the most fields; NUL, which no text has, where there is one field.
  function delimiterOf(text) {
    const counts = [",", "\t", ";"].map((one) => [parsed(text, one, 1)[0]?.length ?? 0, one]);
    const [most, delimiter] = counts.sort((a, b) => b[0] - a[0])[0];
    return most > 1 ? delimiter : "\0";
  }

  // Rows of fields, at most `most`; a quote within quotes is doubled (RFC 4180), empty lines are left out.
  function parsed(text, delimiter, most = Infinity) {
    const rows = [];
    let row = [], field = "", quoted = false, at = 0;
    const special = new RegExp(`["\\r\\n${delimiter === "\t" ? "\\t" : delimiter}]`, "g");
    const endRow = () => {
      row.push(field);
      if (row.length > 1 || row[0] !== "") rows.push(row);
      row = []; field = "";
    };
    while (at < text.length && rows.length < most) {
      if (quoted) {
        const end = text.indexOf('"', at);
        if (end < 0) { field += text.slice(at); at = text.length; break; }
        field += text.slice(at, end);
        at = end + 1;
        if (text[at] === '"') { field += '"'; at += 1; } else quoted = false;
        continue;
      }
      special.lastIndex = at;
      const found = special.exec(text);
      const end = found ? found.index : text.length;
      field += text.slice(at, end);
      at = end + 1;
      const sign = found && found[0];
      if (sign === '"') {
        if (field === "") quoted = true; else field += '"';
      } else if (sign === delimiter) { row.push(field); field = ""; }
      else if (sign) {
        if (sign === "\r" && text[at] === "\n") at += 1;
        endRow();
      }
    }
    if ((field !== "" || row.length) && rows.length < most) endRow();
    return rows;
  }

  // A cell that no spreadsheet runs, as workspace/spreadsheet.py has it, in quotes where it needs them.
  function cell(value) {
    const text = String(value);
    const safe = /^\s*[=+\-@＝＋－＠]|^[\t\r\n]/.test(text) && !/^[+-]?\d+([.,]\d+)*(e[+-]?\d+)?$/i.test(text) ? "'" + text : text;
    return /[",\r\n\t]|^\s|\s$/.test(safe) ? '"' + safe.replaceAll('"', '""') + '"' : safe;
  }

  const line = (fields) => fields.map(cell).join(",") + "\r\n";
  return { decoded, delimiterOf, parsed, line };
})();
