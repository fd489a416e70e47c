# Reads words.txt, whose lines are "phrase | replacement", then the files to check. A phrase matches
# whole words, in any case. Run by words.sh.

NR == FNR {
  if ($0 ~ /^#/ || $0 == "") next
  split($0, columns, / *[|] */)
  phrases[++num_phrases] = tolower(columns[1])
  replacements[num_phrases] = columns[2]
  next
}

FNR == 1 { declaration = ""; is_declaring = 0 }

{ check_phrases(tolower($0)) }

FILENAME ~ /[.]cuh?$/ { check_kernel_name($0) }

END { exit violations > 0 }

function check_phrases(line,    i) {
  for (i = 1; i <= num_phrases; ++i)
    if (has_phrase(line, phrases[i]))
      violation("'" phrases[i] "': write " replacements[i])
}

function has_phrase(line, phrase,    at) {
  while ((at = index(line, phrase)) > 0) {
    if (substr(line, at - 1, at > 1) !~ /[a-z0-9_]/ &&
        substr(line, at + length(phrase), 1) !~ /[a-z0-9_]/) return 1
    line = substr(line, at + length(phrase))
  }
  return 0
}

# A declaration may span lines: it is collected until the function's name and parenthesis are there.
function check_kernel_name(line,    name) {
  sub(/\/\/.*/, "", line)
  if (!is_declaring) {
    if (line !~ /(^|[^A-Za-z0-9_])__global__($|[^A-Za-z0-9_])/) return
    sub(/^.*__global__/, "", line)
    is_declaring = 1
    declaration = ""
  }
  declaration = declaration " " line
  # Attributes such as __launch_bounds__(256, 2), whose arguments may hold one level of parentheses.
  gsub(/__[a-z_]+__ *\([^()]*(\([^()]*\)[^()]*)*\)/, "", declaration)
  if (!match(declaration, /[A-Za-z_][A-Za-z0-9_]* *[(<]/)) return
  name = substr(declaration, RSTART, RLENGTH)
  sub(/ *[(<]$/, "", name)
  if (name ~ /^__/) return
  is_declaring = 0
  if (name !~ /_kernel$/) violation(name ": the name of a __global__ function ends in _kernel")
}

function violation(rule) {
  printf "%s:%d: %s\n", FILENAME, FNR, rule
  ++violations
}
