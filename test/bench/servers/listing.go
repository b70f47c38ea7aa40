package main

import (
	"encoding/xml"
	"net/http"
	"net/url"
	"sort"
	"strconv"
	"strings"
)

func (s *store) serveBucket(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	switch {
	case r.Method == http.MethodHead:
		w.WriteHeader(http.StatusOK)
	case r.Method == http.MethodPost && query.Has("delete"):
		s.deleteObjects(w, r)
	case r.Method != http.MethodGet:
		refuseUnknown(w, r)
	case query.Has("uploads"):
		s.listUploads(w, query)
	case query.Has("location"):
		answerXML(w, http.StatusOK, struct {
			XMLName xml.Name `xml:"LocationConstraint"`
		}{})
	case query.Has("versioning"), query.Has("acl"), query.Has("policy"):
		refuseUnknown(w, r)
	default:
		s.listObjects(w, query)
	}
}

type listEntry struct {
	Key          string
	LastModified string
	ETag         string
	Size         int64
	StorageClass string
}

type commonPrefix struct{ Prefix string }

type listing struct {
	XMLName               xml.Name `xml:"ListBucketResult"`
	Name                  string
	Prefix                string
	Delimiter             string `xml:",omitempty"`
	EncodingType          string `xml:",omitempty"`
	KeyCount              int
	MaxKeys               int
	IsTruncated           bool
	NextContinuationToken string `xml:",omitempty"`
	NextMarker            string `xml:",omitempty"`
	Contents              []listEntry
	CommonPrefixes        []commonPrefix
}

// listObjects answers both list calls; the token of one page is simply the last key (or prefix) on it.
func (s *store) listObjects(w http.ResponseWriter, query url.Values) {
	encode := func(text string) string { return text }
	if query.Get("encoding-type") == "url" {
		encode = func(text string) string { return strings.ReplaceAll(url.QueryEscape(text), "%2F", "/") }
	}
	prefix, delimiter := query.Get("prefix"), query.Get("delimiter")
	after := max(query.Get("continuation-token"), query.Get("start-after"), query.Get("marker"))
	answer := listing{Name: s.bucket, Prefix: encode(prefix), Delimiter: encode(delimiter), EncodingType: query.Get("encoding-type"), MaxKeys: 1000}
	if limit, err := strconv.Atoi(query.Get("max-keys")); err == nil && limit < answer.MaxKeys {
		answer.MaxKeys = limit
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	keys := make([]string, 0, len(s.objects))
	for key := range s.objects {
		if strings.HasPrefix(key, prefix) && key > after {
			keys = append(keys, key)
		}
	}
	sort.Strings(keys)
	last := after
	for _, key := range keys {
		folder := ""
		if head, _, inside := strings.Cut(key[len(prefix):], delimiter); delimiter != "" && inside {
			folder = prefix + head + delimiter
		}
		if folder != "" && strings.HasPrefix(last, folder) {
			continue
		}
		if answer.KeyCount == answer.MaxKeys {
			answer.IsTruncated = true
			answer.NextContinuationToken, answer.NextMarker = last, last
			break
		}
		answer.KeyCount++
		if folder != "" {
			answer.CommonPrefixes = append(answer.CommonPrefixes, commonPrefix{encode(folder)})
			last = folder
			continue
		}
		found := s.objects[key]
		answer.Contents = append(answer.Contents, listEntry{encode(key), stamp(found.modified), found.etag, found.size, "STANDARD"})
		last = key
	}
	answerXML(w, http.StatusOK, answer)
}

func (s *store) listUploads(w http.ResponseWriter, query url.Values) {
	type entry struct{ Key, UploadId, Initiated string }
	answer := struct {
		XMLName     xml.Name `xml:"ListMultipartUploadsResult"`
		Bucket      string
		IsTruncated bool
		Upload      []entry
	}{Bucket: s.bucket}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	for _, running := range s.uploads {
		if strings.HasPrefix(running.key, query.Get("prefix")) {
			answer.Upload = append(answer.Upload, entry{running.key, running.id, stamp(running.created)})
		}
	}
	sort.Slice(answer.Upload, func(i, j int) bool { return answer.Upload[i].Key < answer.Upload[j].Key })
	answerXML(w, http.StatusOK, answer)
}

func (s *store) deleteObjects(w http.ResponseWriter, r *http.Request) {
	var wanted struct{ Object []struct{ Key string } }
	if err := xml.NewDecoder(r.Body).Decode(&wanted); err != nil {
		refuseS3(w, http.StatusBadRequest, "MalformedXML", err.Error())
		return
	}
	type entry struct{ Key string }
	answer := struct {
		XMLName xml.Name `xml:"DeleteResult"`
		Deleted []entry
	}{}
	for _, want := range wanted.Object {
		s.remove(want.Key)
		answer.Deleted = append(answer.Deleted, entry{want.Key})
	}
	answerXML(w, http.StatusOK, answer)
}
