package main

import (
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
)

// treePage is the real Hub's page of the recursive listing.
const treePage = 1000

// hubFile is one file of a model; LFS files carry a SHA-256 and are served by the CDN, the others by the hub under their git blob id.
type hubFile struct {
	Path   string `json:"path"`
	Source string `json:"source"`
	Size   int64  `json:"size"`
	Oid    string `json:"oid"`
	Sha256 string `json:"sha256"`
	Lfs    bool   `json:"lfs"`
}

type hubModel struct {
	Id     string    `json:"id"`
	Commit string    `json:"commit"`
	Files  []hubFile `json:"files"`
	byPath map[string]*hubFile
}

type hub struct {
	models map[string]*hubModel
	bySha  map[string]*hubFile
	cdn    string
}

func readHub(path, cdn string) (*hub, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var models []*hubModel
	if err := json.Unmarshal(text, &models); err != nil {
		return nil, err
	}
	result := &hub{models: map[string]*hubModel{}, bySha: map[string]*hubFile{}, cdn: cdn}
	for _, model := range models {
		model.byPath = map[string]*hubFile{}
		for i := range model.Files {
			file := &model.Files[i]
			model.byPath[file.Path] = file
			result.bySha[file.Sha256] = file
		}
		result.models[model.Id] = model
	}
	return result, nil
}

// ServeHTTP knows what `hf download` and the mover ask for: model info, tree, auth-check and resolve.
func (h *hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		h.refuse(w, r)
		return
	}
	if rest, isApi := strings.CutPrefix(r.URL.Path, "/api/models/"); isApi {
		h.serveApi(w, r, strings.Split(rest, "/"))
		return
	}
	// /org/name/resolve/REVISION/path/of/file
	parts := strings.SplitN(strings.TrimPrefix(r.URL.Path, "/"), "/", 5)
	if len(parts) == 5 && parts[2] == "resolve" {
		if model := h.models[parts[0]+"/"+parts[1]]; model != nil && model.knows(parts[3]) {
			h.serveResolve(w, r, model, parts[4])
			return
		}
	}
	h.refuse(w, r)
}

func (m *hubModel) knows(revision string) bool { return revision == "main" || revision == m.Commit }

func (h *hub) serveApi(w http.ResponseWriter, r *http.Request, parts []string) {
	if len(parts) < 2 {
		h.refuse(w, r)
		return
	}
	model := h.models[parts[0]+"/"+parts[1]]
	rest := parts[2:]
	switch {
	case model == nil:
		w.Header().Set("X-Error-Code", "RepoNotFound")
		h.refuse(w, r)
	case len(rest) == 0, rest[0] == "revision" && len(rest) == 2 && model.knows(rest[1]):
		answerJSON(w, model.info())
	case rest[0] == "tree" && len(rest) == 2 && model.knows(rest[1]):
		model.serveTree(w, r)
	case rest[0] == "auth-check":
		w.WriteHeader(http.StatusOK)
	default:
		w.Header().Set("X-Error-Code", "RevisionNotFound")
		h.refuse(w, r)
	}
}

func (m *hubModel) info() map[string]any {
	siblings := make([]map[string]any, 0, len(m.Files))
	for i := range m.Files {
		file := &m.Files[i]
		entry := map[string]any{"rfilename": file.Path, "size": file.Size, "blobId": file.Oid}
		if file.Lfs {
			entry["lfs"] = map[string]any{"sha256": file.Sha256, "size": file.Size, "pointerSize": 135}
		}
		siblings = append(siblings, entry)
	}
	return map[string]any{"id": m.Id, "modelId": m.Id, "sha": m.Commit, "private": false, "gated": false, "tags": []string{}, "siblings": siblings}
}

func (m *hubModel) serveTree(w http.ResponseWriter, r *http.Request) {
	start, _ := strconv.Atoi(r.URL.Query().Get("cursor"))
	end := min(start+treePage, len(m.Files))
	if start < 0 || start > end {
		http.Error(w, "bad cursor", http.StatusBadRequest)
		return
	}
	entries := make([]map[string]any, 0, end-start)
	for i := start; i < end; i++ {
		file := &m.Files[i]
		entry := map[string]any{"type": "file", "path": file.Path, "size": file.Size, "oid": file.Oid}
		if file.Lfs {
			entry["lfs"] = map[string]any{"oid": file.Sha256, "size": file.Size, "pointerSize": 135}
		}
		entries = append(entries, entry)
	}
	if end < len(m.Files) {
		next := *r.URL
		query := next.Query()
		query.Set("cursor", strconv.Itoa(end))
		next.RawQuery = query.Encode()
		w.Header().Set("Link", fmt.Sprintf("<http://%s%s>; rel=\"next\"", r.Host, next.RequestURI()))
	}
	answerJSON(w, entries)
}

func (h *hub) serveResolve(w http.ResponseWriter, r *http.Request, model *hubModel, path string) {
	file := model.byPath[path]
	if file == nil {
		w.Header().Set("X-Error-Code", "EntryNotFound")
		h.refuse(w, r)
		return
	}
	w.Header().Set("X-Repo-Commit", model.Commit)
	if file.Lfs {
		w.Header().Set("X-Linked-Etag", `"`+file.Sha256+`"`)
		w.Header().Set("X-Linked-Size", strconv.FormatInt(file.Size, 10))
		w.Header().Set("Location", h.cdn+"/"+file.Sha256+"?name="+url.QueryEscape(path))
		w.WriteHeader(http.StatusFound)
		return
	}
	w.Header().Set("ETag", `"`+file.Oid+`"`)
	h.send(w, r, file)
}

// serveContent is the CDN: one address a file, by SHA-256.
func (h *hub) serveContent(w http.ResponseWriter, r *http.Request) {
	file := h.bySha[strings.TrimPrefix(r.URL.Path, "/")]
	if file == nil || (r.Method != http.MethodGet && r.Method != http.MethodHead) {
		h.refuse(w, r)
		return
	}
	if r.Header.Get("Authorization") != "" {
		http.Error(w, "Only one auth mechanism allowed", http.StatusBadRequest)
		return
	}
	w.Header().Set("ETag", `"`+file.Sha256+`"`)
	h.send(w, r, file)
}

func (h *hub) send(w http.ResponseWriter, r *http.Request, file *hubFile) {
	w.Header().Set("Content-Type", "application/octet-stream")
	if err := sendSegments(w, r, []segment{{file.Source, file.Size}}, file.Size); err != nil {
		log.Printf("hub: %s %s: %v", r.Method, r.URL, err)
	}
}

func (h *hub) refuse(w http.ResponseWriter, r *http.Request) {
	log.Printf("hub: not known: %s %s", r.Method, r.URL)
	http.Error(w, `{"error":"not found"}`, http.StatusNotFound)
}

func answerJSON(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	if err := json.NewEncoder(w).Encode(value); err != nil {
		log.Printf("hub: %v", err)
	}
}
