#!/bin/sh
# Checks that the relative links of all Markdown pages lead to files, and their anchors to headings.
# Prints page:line: link for each that does not.
# usage: tests/lint/links.sh [FOLDER]
set -eu
cd "${1:-$(dirname "$0")/../..}"

# The anchor that GitHub gives a heading.
anchors_of() {
  sed -n 's/^##* //p' "$1" | tr 'A-Z' 'a-z' | sed 's/[^a-z0-9 _-]//g; s/ /-/g'
}

is_failed=0
for page in *.md docs/*.md */README.md; do
  [ -f "$page" ] || continue
  links=$(grep -no -e '](\([^)]*\))' -e 'src="[^"]*"' "$page" | sed 's/](//; s/)$//; s/src="//; s/"$//') || continue
  for link in $links; do
    target=${link#*:}
    case $target in http://* | https://* | mailto:*) continue ;; esac
    file=$(dirname "$page")/${target%%#*}
    [ -n "${target%%#*}" ] || file=$page
    anchor=
    case $target in *#*) anchor=${target#*#} ;; esac
    if [ ! -e "$file" ]; then
      echo "$page:$link: there is no such file"
      is_failed=1
    elif [ -n "$anchor" ] && ! anchors_of "$file" | grep -qx -e "$anchor"; then
      echo "$page:$link: there is no such heading"
      is_failed=1
    fi
  done
done
exit $is_failed
